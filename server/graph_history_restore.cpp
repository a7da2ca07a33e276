// SPDX-License-Identifier: MIT
// Graphs, executables and user objects in a snapshot. Graphs that the application holds are saved as they are; beside
// them the states of graphs that executables were made of, where those are not the same any more.
#include <algorithm>
#include <list>
#include <set>

#include "checkpoint_parts.h"
#include "dispatch.h"
#include "graph_history.h"
#include "graph_nodes.h"
#include "log.h"
#include "rpc/ring/message.h"
#include "session.h"

namespace cricket::server {
namespace {

using nlohmann::json;

[[noreturn]] void fail(const std::string& what) { fail_checkpoint(what); }

Call own_call(Session& session) { return {session, session.driver, session.objects, {}, nullptr, 0, {}, true, 0, 0}; }

template <class Visit>
void each_node(const GraphDescription& graph, Visit visit) {
    for (const NodeDescription& one : graph.nodes) {
        visit(one);
        for (const auto& inside : one.inside) each_node(*inside, visit);
    }
}

void require_made(Call& call, CUresult status, const char* what) {
    if (status != CUDA_SUCCESS) fail(std::string("making an executable graph again: ") + what + ": " + result_name(call.driver, status));
}

CUgraphNode node_at(const json& value) { return from_number<CUgraphNode>(value.get<uint64_t>()); }

}  // namespace

// What of a snapshot's graphs is written once and referred to.
class GraphHistory::Saved {
  public:
    json sources = json::array();
    std::set<CUgraphNode> living;  // nodes of the application's graphs
    std::set<CUdeviceptr> allocated, freed, frees;  // by nodes; what is freed by the graph that allocates it, and all that is freed

    void note_memory(const GraphDescription& graph) {
        const MemoryOfGraph memory = memory_of(graph);
        const std::set<CUdeviceptr> own(memory.freed.begin(), memory.freed.end());
        frees.insert(own.begin(), own.end());
        for (const auto& one : memory.allocated) {
            allocated.insert(one.address);
            if (own.contains(one.address)) freed.insert(one.address);
        }
    }

    size_t index_of(GraphHistory& history, Call& call, const SourceRef& source) {
        const auto [place, is_new] = indices_.try_emplace(source.get(), indices_.size());
        if (!is_new) return place->second;
        if (!source->lost.empty()) fail("an executable graph cannot be restored: " + source->lost);
        // An application's graph that has not changed since is saved already.
        if (source->graph && !source->kept && source->before.empty()) {
            sources.push_back({{"graph", history.session_.objects.find(HandleKind::Graph, source->graph)}});
        } else {
            GraphDescription description = history.description_of(call, *source);
            check_description(call, description);
            note_memory(description);
            description.number = 0;
            sources.push_back({{"description", to_json(description)}});
        }
        return place->second;
    }

  private:
    std::map<const Source*, size_t> indices_;
};

// What is rebuilt of it.
struct GraphHistory::Rebuilt {
    NodeMap nodes;  // of the application's graphs
    std::vector<SourceRef> sources;
    std::vector<NodeMap> in_source;  // those of the application's graphs: `nodes`
};

std::vector<uint64_t> GraphHistory::living(HandleKind kind) const {
    std::vector<uint64_t> numbers;
    for (const auto& [place, entry] : session_.journal.entries()) {
        const uint64_t object = entry.effect.object;
        if (entry.effect.kind == Effect::Kind::Create && Objects::kind_of(object) == kind && session_.journal.creation(object) == &entry)
            numbers.push_back(object);
    }
    return numbers;
}

uint64_t GraphHistory::context_of_creation(uint64_t number) const {
    const JournalEntry* made = session_.journal.creation(number);
    if (!made) return 0;
    XDR xdrs;
    xdrmem_create(&xdrs, reinterpret_cast<char*>(const_cast<std::byte*>(made->message.data())),
                  static_cast<u_int>(made->message.size()), XDR_DECODE);
    uint32_t xid = 0, procedure = 0;
    rpc::Credential credential;
    return rpc::decode_call_head(&xdrs, &xid, &procedure, &credential) ? credential.context : 0;
}

bool GraphHistory::recreates(uint64_t object) {
    const HandleKind kind = Objects::kind_of(object);
    return kind == HandleKind::Graph || kind == HandleKind::GraphExec || kind == HandleKind::UserObject;
}

json GraphHistory::describe_exec(Call& call, const Exec& exec, Saved& saved) {
    if (exec.flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH)
        fail("an executable graph is for launches by kernels: its handle lies in device memory, and cannot be restored");
    json one{{"from", saved.index_of(*this, call, exec.from)}, {"flags", exec.flags}, {"context", exec.context}};
    if (exec.updated) {
        one["updated"] = saved.index_of(*this, call, exec.updated);
        if (session_.graph_memory.any() && !memory_of(description_of(call, *exec.from)).allocated.empty())
            fail("an executable graph that allocates memory was updated from another graph, which cannot be restored");
    }
    for (const auto& [node, change] : exec.changes) {
        json to{{"node", to_number(node)},  {"procedure", static_cast<uint32_t>(change.procedure)},
                {"context", change.context}, {"event", change.event},
                {"legacy", change.legacy},   {"params", bytes_json(change.params)},
                {"data", bytes_json(change.data)}};
        if (change.event && !session_.objects.get(HandleKind::Event, change.event))
            fail("an executable graph uses an event that is gone, which cannot be restored");
        if (change.child) {
            to["child"] = saved.index_of(*this, call, change.child);
        } else if (!change.params.empty()) {
            NodeParams params;
            if (params.decode(call, blob_of(change.params), blob_of(change.data)) != CUDA_SUCCESS)
                fail("an executable graph uses a kernel, an array or an event that is gone, which cannot be restored");
        }
        one["changes"].push_back(std::move(to));
    }
    for (const auto& [node, enabled] : exec.enabled) one["enabled"].push_back({to_number(node), enabled});
    for (const auto& [number, count] : exec.objects) one["objects"].push_back({number, count});
    // The application may ask the executable about nodes of a graph which has changed since.
    for (const auto& [node, ours] : exec.stand_ins) one["stand_ins"].push_back({to_number(node), to_number(ours)});
    const Source& from = *exec.from;
    if (exec.stand_ins.empty() && !from.kept && (from.described || !from.before.empty()))
        each_node(description_of(call, *exec.from), [&](const NodeDescription& node) {
            if (saved.living.count(node.node)) one["stand_ins"].push_back({to_number(node.node), to_number(node.node)});
        });
    return one;
}

json GraphHistory::describe_clones(Call& call, const Saved& saved) {
    json list = json::array();
    for (const auto& [clone, original] : clone_of_) {
        json pairs = json::array();
        visit_nodes(session_, original, [&, clone = clone](CUgraphNode node, const std::vector<CUgraph>&) {
            CUgraphNode twin = nullptr;
            if (call.driver.cuGraphNodeFindInClone(&twin, node, clone) == CUDA_SUCCESS && saved.living.count(twin))
                pairs.push_back({to_number(node), to_number(twin)});
        });
        list.push_back({{"clone", session_.objects.find(HandleKind::Graph, clone)}, {"pairs", std::move(pairs)}});
    }
    for (const auto& [clone, known] : clones_) {
        json pairs = json::array();
        for (const auto& [node, twin] : known) pairs.push_back({to_number(node), to_number(twin)});
        list.push_back({{"clone", session_.objects.find(HandleKind::Graph, clone)}, {"pairs", std::move(pairs)}});
    }
    return list;
}

json GraphHistory::describe() {
    if (put_off_ && put_off_->contains("lost")) fail((*put_off_)["lost"]);
    if (put_off_) return *put_off_;
    Call call = own_call(session_);
    session_.forget_destroyed();
    std::set<uint64_t> inside;  // graphs that belong to nodes
    for (const auto& [node, graphs] : session_.graphs_in_nodes) inside.insert(graphs.begin(), graphs.end());
    Saved saved;
    json all = json::object();
    const auto objects_json = [](const Held& objects) {
        json list = json::array();
        for (const auto& [number, count] : objects) list.push_back({number, count});
        return list;
    };
    for (const uint64_t number : living(HandleKind::Graph)) {
        if (inside.count(number)) continue;
        CUgraph graph = graph_of(number);
        const GraphDescription description = describe_graph(call, graph, context_of_creation(number));
        check_description(call, description);
        saved.note_memory(description);
        each_node(description, [&](const NodeDescription& node) { saved.living.insert(node.node); });
        all["graphs"].push_back({{"description", to_json(description)}, {"objects", objects_json(objects_of(graph))}});
    }
    for (const uint64_t number : living(HandleKind::GraphExec)) {
        const auto exec = execs_.find(number);
        if (exec == execs_.end()) fail("an executable graph was made in a way that is not known, and cannot be restored");
        json one = describe_exec(call, exec->second, saved);
        one["number"] = number;
        all["execs"].push_back(std::move(one));
    }
    std::set<uint64_t> held;
    for (const auto& [graph, objects] : graph_objects_)
        for (const auto& [number, count] : objects_of(graph)) held.insert(number);
    for (const auto& [number, exec] : execs_)
        for (const auto& [object, count] : exec.objects) held.insert(object);
    for (const uint64_t number : living(HandleKind::UserObject)) {
        const auto object = user_objects_.find(number);
        if (object == user_objects_.end() || (object->second.references <= 0 && !held.count(number)))
            fail("it is not known what holds a CUuserObject, which cannot be restored");
        all["user_objects"].push_back({{"number", number},
                                       {"id", object->second.id},
                                       {"flags", object->second.flags},
                                       {"references", std::max<int64_t>(object->second.references, 0)}});
    }
    if (const CUdeviceptr left = session_.graph_memory.left(call.driver, saved.allocated, saved.freed))
        fail(at_address("memory that a graph allocated", left) + " is in use, which cannot be restored: free it");
    for (const CUdeviceptr one : saved.frees)
        if (!saved.allocated.contains(one)) fail(at_address("a graph frees memory of a graph that is gone", one) + ", which cannot be restored");
    if (all.empty()) return nullptr;
    if (const CUdeviceptr beginning = session_.graph_memory.beginning()) all["memory"] = beginning;
    all["clones"] = describe_clones(call, saved);
    all["sources"] = std::move(saved.sources);
    session_.any_context();
    return all;
}

// Makes `exec` as the application made it: of a graph, and updated from another if it was. `nodes`: those that it goes by.
CUgraphExec GraphHistory::instantiate_again(Call& call, const Exec& exec, NodeMap* nodes) {
    const DriverTable& driver = call.driver;
    // What executables hold of user objects they take over from their graphs.
    const auto hold = [&](CUgraph graph, bool on) {
        for (const auto& [number, count] : exec.objects) {
            auto* object = static_cast<CUuserObject>(session_.objects.get(HandleKind::UserObject, number));
            require_made(call, on ? driver.cuGraphRetainUserObject(graph, object, count, 0)
                                  : driver.cuGraphReleaseUserObject(graph, object, count),
                         "user objects");
        }
    };
    CUgraphExec made = nullptr;
    const auto instantiate = [&](CUgraph graph) {
        CUDA_GRAPH_INSTANTIATE_PARAMS params{};
        params.flags = exec.flags;
        if (exec.flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) params.hUploadStream = session_.waiting_stream();
        require_made(call, driver.cuGraphInstantiateWithParams ? driver.cuGraphInstantiateWithParams(&made, graph, &params)
                                                               : driver.cuGraphInstantiateWithFlags(&made, graph, exec.flags),
                     "cuGraphInstantiate");
    };
    if (session_.make_current(exec.context) != CUDA_SUCCESS) session_.any_context();
    if (!exec.updated) {
        hold(exec.from->graph, true);
        instantiate(exec.from->graph);
        hold(exec.from->graph, false);
        return made;
    }
    instantiate(exec.from->graph);
    hold(exec.updated->graph, true);
    CUgraphExecUpdateResultInfo info{};
    if (const CUresult status = driver.cuGraphExecUpdate_v2(made, exec.updated->graph, &info); status != CUDA_SUCCESS) {
        // Both had the same nodes in the same order, or the first update would have failed.
        log_warn("an executable graph takes no update from its second graph any more (%s): it is made of that one",
                 result_name(driver, status).c_str());
        driver.cuGraphExecDestroy(made);
        instantiate(exec.updated->graph);
        fail_unless_alike(call, exec.from->graph, exec.updated->graph, nodes);
    }
    hold(exec.updated->graph, false);
    return made;
}

// The change of a single node, as json has it, made once more.
GraphHistory::Change GraphHistory::change_again(Call& call, uint64_t number, CUgraphExec made, CUgraphNode node, const json& one,
                                                const Rebuilt& rebuilt) {
    const DriverTable& driver = call.driver;
    Change change;
    change.procedure = static_cast<Proc>(one.at("procedure").get<uint32_t>());
    change.context = one.at("context");
    change.event = one.at("event");
    change.legacy = one.at("legacy");
    change.params = bytes_of_json(one.at("params"));
    change.data = bytes_of_json(one.at("data"));
    if (session_.make_current(change.context) != CUDA_SUCCESS) session_.any_context();
    if (one.contains("child")) {
        change.child = rebuilt.sources.at(one["child"].get<size_t>());
        require_made(call, driver.cuGraphExecChildGraphNodeSetParams(made, node, change.child->graph), "a child graph");
        session_.graph_targets.child_changed(session_, made, node, change.child->graph);
    } else if (change.event) {
        auto* event = static_cast<CUevent>(session_.objects.get(HandleKind::Event, change.event));
        require_made(call, change.procedure == Proc::cuGraphExecEventRecordNodeSetEvent
                               ? driver.cuGraphExecEventRecordNodeSetEvent(made, node, event)
                               : driver.cuGraphExecEventWaitNodeSetEvent(made, node, event),
                     "an event");
    } else {
        const bool known = session_.objects.find(HandleKind::GraphNode, node) != 0;
        cuGraphExecNodeSetParams_args args{};
        cuGraphExecNodeSetParams_res res{};
        args.hGraphExec = number;
        args.hNode = session_.objects.add(HandleKind::GraphNode, node);
        args.legacy = change.legacy;
        args.params = blob_of(change.params);
        args.data = blob_of(change.data);
        serve_cuGraphExecNodeSetParams(call, args, res);
        session_.graph_targets.after(call, Proc::cuGraphExecNodeSetParams, &args, &res);
        if (!known) session_.objects.remove(HandleKind::GraphNode, args.hNode);
        require_made(call, static_cast<CUresult>(res.status), "parameters of a node");
    }
    return change;
}

void GraphHistory::recreate_exec(Call& call, const json& json, Rebuilt& rebuilt) {
    Exec exec;
    exec.flags = json.at("flags");
    exec.context = json.at("context");
    const size_t from = json.at("from");
    exec.from = rebuilt.sources.at(from);
    if (json.contains("updated")) exec.updated = rebuilt.sources.at(json["updated"].get<size_t>());
    for (const auto& one : json.value("objects", json::array())) exec.objects[one.at(0)] = one.at(1);
    NodeMap nodes = rebuilt.in_source.at(from);
    CUgraphExec made = instantiate_again(call, exec, &nodes);
    session_.graph_targets.made(session_, made, exec.updated ? exec.updated->graph : exec.from->graph);
    const uint64_t number = session_.objects.add(HandleKind::GraphExec, made, json.at("number"));
    const auto node_named = [&](const auto& value) {
        if (const auto found = nodes.find(node_at(value)); found != nodes.end()) return found->second;
        if (exec.updated)
            for (size_t i = 0; i < rebuilt.sources.size(); ++i)
                if (rebuilt.sources[i] == exec.updated)
                    if (const auto found = rebuilt.in_source[i].find(node_at(value)); found != rebuilt.in_source[i].end()) return found->second;
        fail("making an executable graph again: the snapshot names a node that it has not");
    };
    for (const auto& one : json.value("changes", json::array())) {
        CUgraphNode node = node_named(one.at("node"));
        exec.changes[node] = change_again(call, number, made, node, one, rebuilt);
    }
    for (const auto& one : json.value("enabled", json::array())) {
        CUgraphNode node = node_named(one.at(0));
        exec.enabled[node] = one.at(1);
        require_made(call, call.driver.cuGraphNodeSetEnabled(made, node, one.at(1).get<bool>()), "cuGraphNodeSetEnabled");
    }
    for (const auto& one : json.value("stand_ins", json::array()))
        if (const auto node = rebuilt.nodes.find(node_at(one.at(0))); node != rebuilt.nodes.end())
            exec.stand_ins[node->second] = node_named(one.at(1));
    execs_[number] = std::move(exec);
}

// Puts the nodes of one graph in place of those of another that has as many of the same types in the same order.
void GraphHistory::fail_unless_alike(Call& call, CUgraph was, CUgraph is, NodeMap* nodes) {
    std::vector<CUgraphNode> before, now;
    list_nodes(call.driver, was, &before);
    list_nodes(call.driver, is, &now);
    NodeMap instead;
    for (size_t i = 0; i < before.size() && i < now.size(); ++i) {
        CUgraphNodeType first{}, second{};
        call.driver.cuGraphNodeGetType(before[i], &first);
        call.driver.cuGraphNodeGetType(now[i], &second);
        if (first == second) instead[before[i]] = now[i];
    }
    if (before.size() != now.size() || instead.size() != now.size())
        fail("making an executable graph again: the graph of its last update does not fit");
    for (auto& [old, node] : *nodes)
        if (const auto other = instead.find(node); other != instead.end()) node = other->second;
}

// With one reference more than the application's, until graphs and executables have theirs.
void GraphHistory::recreate_user_object(Call& call, const json& one) {
    const uint64_t number = one.at("number");
    UserObject object{one.at("id"), one.at("flags"), one.at("references")};
    void* context = session_.callbacks.context(object.id, Callbacks::Use::Once);
    void* prepared = session_.user_objects.prepare(context);
    CUuserObject made = nullptr;
    const CUresult status = call.driver.cuUserObjectCreate(&made, prepared, UserObjects::destroyed,
                                                           static_cast<unsigned>(object.references) + 1, object.flags);
    if (status != CUDA_SUCCESS) fail("making a user object again: " + result_name(call.driver, status));
    session_.user_objects.made(prepared, made);
    session_.objects.add(HandleKind::UserObject, made, number);
    user_objects_[number] = object;
}

// Returns the application's graphs. Those that free memory of others come last.
std::vector<CUgraph> GraphHistory::build_all(Call& call, const json& graphs, const json& sources, CUdeviceptr memory, Rebuilt& rebuilt) {
    struct Unit {
        GraphDescription description;
        size_t index = 0;
        bool source = false, frees_others = false;
        CUgraph graph = nullptr;
    };
    struct Pending {
        Unit* unit;
        GraphBuilding building;
    };
    std::vector<std::unique_ptr<Unit>> units;  // that do not move: what is expected of places is theirs
    GraphPlaces places(session_.driver, memory);
    session_.graph_memory.begins(memory);
    const auto add = [&](const nlohmann::json& description, size_t index, bool source) {
        auto unit = std::make_unique<Unit>();
        unit->description = graph_of_json(description);
        unit->index = index;
        unit->source = source;
        const MemoryOfGraph in = memory_of(unit->description, &places);
        std::set<CUdeviceptr> own;
        for (const auto& one : in.allocated) own.insert(one.address);
        unit->frees_others = std::ranges::any_of(in.freed, [&](CUdeviceptr one) { return !own.contains(one); });
        units.push_back(std::move(unit));
    };
    for (size_t i = 0; i < graphs.size(); ++i) add(graphs[i].at("description"), i, false);
    for (size_t i = 0; i < sources.size(); ++i)
        if (sources[i].contains("description")) add(sources[i]["description"], i, true);

    std::vector<CUgraph> built(graphs.size());
    rebuilt.sources.resize(sources.size());
    rebuilt.in_source.resize(sources.size());
    for (const bool frees_others : {false, true}) {
        std::list<Pending> pending;
        for (const auto& unit : units) {
            if (unit->frees_others != frees_others) continue;
            NodeMap* nodes = unit->source ? &rebuilt.in_source[unit->index] : &rebuilt.nodes;
            pending.push_back({unit.get(), build_graph(call, unit->description, nodes, &places, &unit->graph)});
            if (!pending.back().building.go_on()) pending.pop_back();
        }
        while (!pending.empty()) {
            const auto next = std::ranges::min_element(pending, {}, [](const Pending& one) { return one.building.extent(); });
            if (!next->building.go_on()) pending.erase(next);
        }
    }
    for (const auto& unit : units) {
        if (unit->source) {
            auto source = std::make_shared<Source>(session_.driver);
            source->graph = unit->graph;
            source->kept = true;
            source->context = unit->description.context;
            rebuilt.sources[unit->index] = std::move(source);
        } else {
            built[unit->index] = unit->graph;
            give_numbers(call, unit->description, unit->graph, rebuilt.nodes);
        }
    }
    for (size_t i = 0; i < sources.size(); ++i) {
        if (rebuilt.sources[i]) continue;
        auto source = std::make_shared<Source>(session_.driver);
        source->graph = graph_of(sources[i].at("graph"));
        if (!source->graph) fail("the snapshot's graphs are damaged");
        source->context = context_of_creation(sources[i]["graph"]);
        current_[source->graph] = source;
        rebuilt.sources[i] = std::move(source);
        rebuilt.in_source[i] = rebuilt.nodes;
    }
    return built;
}

void GraphHistory::put_off(json saved) {
    if (!saved.is_null()) put_off_ = std::make_unique<json>(std::move(saved));
}

// Nodes hold on to the host memory that is registered when they are made, and that is the application's only once it is
// attached.
void GraphHistory::recreate() try {
    if (!put_off_) return;
    if (put_off_->contains("lost")) fail((*put_off_)["lost"]);
    const std::unique_ptr<json> all = std::move(put_off_);
    const json& saved = *all;
    Call call = own_call(session_);
    const auto list = [&](const char* name) { return saved.value(name, json::array()); };
    for (const auto& one : list("user_objects")) recreate_user_object(call, one);
    Rebuilt rebuilt;
    std::vector<CUgraph> built = build_all(call, list("graphs"), list("sources"), saved.value("memory", CUdeviceptr(0)), rebuilt);
    for (const auto& one : list("execs")) recreate_exec(call, one, rebuilt);
    const auto graphs = list("graphs");
    for (size_t i = 0; i < built.size(); ++i)
        for (const auto& one : graphs.at(i).at("objects")) {
            auto* object = static_cast<CUuserObject>(session_.objects.get(HandleKind::UserObject, one.at(0)));
            const CUresult status = call.driver.cuGraphRetainUserObject(built[i], object, one.at(1), 0);
            if (status != CUDA_SUCCESS) fail("user objects of a graph: " + result_name(call.driver, status));
            graph_objects_[built[i]].own[one.at(0)] = one.at(1);
        }
    for (const auto& one : list("user_objects"))
        call.driver.cuUserObjectRelease(static_cast<CUuserObject>(session_.objects.get(HandleKind::UserObject, one.at("number"))), 1);
    for (const auto& one : list("clones")) {
        CUgraph clone = graph_of(one.at("clone"));
        for (const auto& pair : one.at("pairs")) {
            const auto node = rebuilt.nodes.find(node_at(pair.at(0))), twin = rebuilt.nodes.find(node_at(pair.at(1)));
            if (clone && node != rebuilt.nodes.end() && twin != rebuilt.nodes.end()) clones_[clone][node->second] = twin->second;
        }
    }
    session_.any_context();
} catch (const std::exception& error) {
    put_off(json{{"lost", error.what()}});  // who attaches to the session later is told so, too
    throw;
}

}  // namespace cricket::server
