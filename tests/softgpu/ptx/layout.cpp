// SPDX-License-Identifier: MIT
// Orders basic blocks by a weak topological order (Bourdoncle 1993): every block after its predecessors
// except along back edges, and every loop's blocks next to each other. The run loop lets lanes that are
// behind go first, so in this order lanes that parted meet again no later than at the branch's immediate
// post-dominator, and lanes that left a loop wait behind it for the rest.
#include <algorithm>
#include <limits>

#include "decode.h"

namespace softgpu::ptx {

namespace {

struct Basic {
    size_t begin = 0, end = 0;  // drafts
    std::vector<uint32_t> successors;
};

class Order {
  public:
    explicit Order(const std::vector<Basic>& blocks) : blocks_(blocks), number_(blocks.size(), 0) {}

    std::vector<uint32_t> run() {
        std::vector<uint32_t> out;
        visit(0, out);
        std::reverse(out.begin(), out.end());
        return out;
    }

  private:
    static constexpr uint32_t kDone = std::numeric_limits<uint32_t>::max();

    // `out` is built back to front.
    uint32_t visit(uint32_t v, std::vector<uint32_t>& out) {
        stack_.push_back(v);
        uint32_t head = number_[v] = ++count_;
        bool loop = false;
        for (uint32_t s : blocks_[v].successors) {
            uint32_t least = number_[s] == 0 ? visit(s, out) : number_[s];
            if (least <= head) {
                head = least;
                loop = true;
            }
        }
        if (head != number_[v]) return head;
        number_[v] = kDone;
        uint32_t top = stack_.back();
        stack_.pop_back();
        if (!loop) {
            out.push_back(v);
            return head;
        }
        while (top != v) {
            number_[top] = 0;
            top = stack_.back();
            stack_.pop_back();
        }
        std::vector<uint32_t> component;
        for (uint32_t s : blocks_[v].successors)
            if (number_[s] == 0) visit(s, component);
        component.push_back(v);
        out.insert(out.end(), component.begin(), component.end());
        return head;
    }

    const std::vector<Basic>& blocks_;
    std::vector<uint32_t> number_, stack_;
    uint32_t count_ = 0;
};

bool ends_block(Kind k) {
    return k == Kind::Branch || k == Kind::BranchTable || k == Kind::Jump || k == Kind::Return ||
           k == Kind::Exit || k == Kind::Trap;
}

}  // namespace

void lay_out(Function& function, Decoder& decoder) {
    std::vector<Draft>& drafts = decoder.drafts();
    size_t n = drafts.size();
    // Targets as draft positions; blocks begin at them and behind whatever ends one.
    std::vector<size_t> target(n, n);
    std::vector<std::vector<size_t>> table(n);
    std::vector<bool> leader(n + 1, false);
    leader[0] = true;
    for (size_t i = 0; i < n; ++i) {
        Draft& d = drafts[i];
        if (ends_block(d.in.kind)) leader[i + 1] = true;
        if (!d.label.empty()) {
            target[i] = decoder.label_position(d.label, d.scope, d.in.line);
            leader[target[i]] = true;
        }
        if (d.in.kind != Kind::BranchTable) continue;
        const LabelTable* found = nullptr;
        for (int at = d.scope; at >= 0 && !found; at = function.decl->scope_parent[static_cast<size_t>(at)]) {
            auto it = function.decl->tables.find({at, d.table});
            if (it != function.decl->tables.end()) found = &it->second;
        }
        if (!found) throw ParseError(d.in.line, std::string(d.table), "unknown branch table");
        for (std::string_view label : found->labels) {
            table[i].push_back(decoder.label_position(label, found->scope, d.in.line));
            leader[table[i].back()] = true;
        }
    }
    std::vector<uint32_t> block_at(n + 1, 0);
    std::vector<Basic> blocks;
    for (size_t i = 0; i < n; ++i) {
        if (leader[i]) {
            if (!blocks.empty()) blocks.back().end = i;
            blocks.push_back(Basic{i, n, {}});
        }
        block_at[i] = static_cast<uint32_t>(blocks.size() - 1);
    }
    for (uint32_t b = 0; b < blocks.size(); ++b) {
        size_t last = blocks[b].end - 1;
        const Instr& in = drafts[last].in;
        auto& successors = blocks[b].successors;
        // Only an unguarded jump or end does not fall through. The successor visited last comes next in the
        // order.
        bool falls = !ends_block(in.kind) || (in.kind != Kind::Jump && in.guard != kNone);
        if (target[last] < n) successors.push_back(block_at[target[last]]);
        for (size_t t : table[last]) successors.push_back(block_at[t]);
        if (falls && b + 1 < blocks.size()) successors.push_back(b + 1);
    }
    std::vector<uint32_t> order = Order(blocks).run();

    constexpr size_t kUnplaced = std::numeric_limits<size_t>::max();
    std::vector<size_t> placed(blocks.size(), kUnplaced);
    auto& code = function.code;
    std::vector<size_t> origin;  // draft of each final instruction; n for an inserted jump
    std::vector<uint32_t> jump_to;
    for (size_t k = 0; k < order.size(); ++k) {
        uint32_t b = order[k];
        placed[b] = code.size();
        for (size_t i = blocks[b].begin; i < blocks[b].end; ++i) {
            code.push_back(drafts[i].in);
            origin.push_back(i);
            jump_to.push_back(0);
        }
        const Instr& last = drafts[blocks[b].end - 1].in;
        bool falls = !ends_block(last.kind) ||
                     (last.kind != Kind::Jump && last.kind != Kind::Branch && last.guard != kNone);
        if (falls && b + 1 < blocks.size() && (k + 1 == order.size() || order[k + 1] != b + 1)) {
            Instr jump;
            jump.kind = Kind::Jump;
            jump.simple = false;
            jump.line = last.line;
            code.push_back(jump);
            origin.push_back(n);
            jump_to.push_back(b + 1);
        }
    }
    for (size_t c = 0; c < code.size(); ++c) {
        Instr& in = code[c];
        size_t i = origin[c];
        auto at = [&](uint32_t block) { return &code[placed[block]]; };
        if (i == n) {
            in.target = at(jump_to[c]);
        } else if (in.kind == Kind::Jump || in.kind == Kind::Branch) {
            in.target = at(block_at[target[i]]);
            if (in.kind == Kind::Branch) in.next = at(block_at[i] + 1);
        } else if (in.kind == Kind::BranchTable) {
            auto t = std::make_unique<BranchTable>();
            for (size_t p : table[i]) t->targets.push_back(at(block_at[p]));
            in.data = t.get();
            function.tables.push_back(std::move(t));
        }
    }
}

}  // namespace softgpu::ptx
