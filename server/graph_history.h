// SPDX-License-Identifier: MIT
// What executable graphs were made of. The driver tells nothing about an executable graph, so the session keeps what makes
// one like it: the graph it was instantiated from, the graph of its last update, and the changes of single nodes since.
//
// That costs nearly nothing: a graph which the application destroys is kept in the driver while executables need it, and
// only a graph that is changed while it is needed is described first (graph_description.h) - a changed node alone, or all
// of it where nodes or edges come and go.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "graph_description.h"
#include "procedures.h"

namespace cricket::server {

class Session;

class GraphHistory {
  public:
    explicit GraphHistory(Session& session);
    ~GraphHistory();
    GraphHistory(const GraphHistory&) = delete;

    // Whether before() and after() are to be called around this procedure.
    static bool concerns(uint32_t procedure);
    // `args` and `res` are of the procedure. before() puts other node numbers into args where a restore had to.
    void before(Call& call, Proc procedure, void* args);
    void after(Call& call, Proc procedure, const void* args, void* res);
    // cuGraphDestroy. The graph is gone for the application.
    CUresult destroy(Call& call, CUgraph graph);
    // The driver destroyed it with the capture that made it.
    void destroyed(CUgraph graph) { forget_graph(graph); }

    // Throws std::runtime_error with what cannot be restored, by name. Everything about graphs, executables and user objects.
    nlohmann::json describe();
    // What describe() said in an earlier life, for recreate().
    void put_off(nlohmann::json saved);
    // Makes what was put off, once everything else of the session is there, the application's memory too.
    void recreate();
    // Whether a journalled call is repeated by recreate().
    static bool recreates(uint64_t object);

  private:
    using Held = std::map<uint64_t, unsigned>;  // number of a user object -> references
    // A graph as it was when an executable was made of it.
    struct Source {
        explicit Source(const DriverTable& table) : driver(table) {}
        ~Source();
        Source(const Source&) = delete;
        const DriverTable& driver;
        CUgraph graph = nullptr;  // is it still, but for `before`; null: described, or lost
        bool kept = false;        // the application has destroyed it: it is ours
        uint64_t context = 0;
        std::unordered_map<CUgraphNode, NodeDescription> before;  // nodes whose parameters have changed since
        std::unordered_set<const void*> members;  // nodes and graphs in it, once asked for
        std::shared_ptr<GraphDescription> described;
        std::string lost;         // why it cannot be made again
    };
    using SourceRef = std::shared_ptr<Source>;
    struct Change {
        Proc procedure{};
        uint64_t context = 0, event = 0;
        bool legacy = false;
        std::vector<std::byte> params, data;
        SourceRef child;
    };
    struct Exec {
        SourceRef from, updated;  // updated: null when it was not
        uint64_t flags = 0, context = 0;
        std::map<CUgraphNode, Change> changes;     // since the update, by node of the graph
        std::map<CUgraphNode, bool> enabled;       // switched at some time
        NodeMap stand_ins;                         // after a restore: the application's node -> ours of another graph
        Held objects;
    };
    struct GraphObjects {
        Held own, in_children;
    };
    struct UserObject {
        uint64_t id = 0;  // of the callback
        uint32_t flags = 0;
        int64_t references = 0;  // of the application itself
    };

    // graph_history_calls.cpp
    struct Watch;
    class Watches;
    static const Watch& watch(Proc procedure);

    SourceRef source_of(Call& call, CUgraph graph);
    SourceRef current_of(CUgraph graph);
    SourceRef holding(const void* member);  // a graph's source that has this node or inner graph in it
    void structure_changes(Call& call, CUgraph graph);
    void node_changes(Call& call, CUgraphNode node);
    void freeze(Call& call, const SourceRef& source);
    void node_goes(Call& call, CUgraphNode node);
    void retire(const std::vector<CUgraphNode>& nodes);
    void forget_graph(CUgraph graph);
    void made(Call& call, uint64_t number, uint64_t graph, uint64_t flags);
    void updated(Call& call, uint64_t number, uint64_t graph);
    void changed(Call& call, uint64_t exec, uint64_t node, Change change);
    Held objects_of(CUgraph graph) const;
    void child_added(CUgraph parent, uint64_t child);
    GraphDescription description_of(Call& call, Source& source);
    bool keeps_as_is(Call& call, CUgraph graph) const;
    CUgraph graph_of(uint64_t number) const;
    CUgraphNode node_of(uint64_t number) const;
    std::vector<uint64_t> living(HandleKind kind) const;
    uint64_t context_of_creation(uint64_t number) const;

    // graph_history_restore.cpp
    class Saved;
    nlohmann::json describe_exec(Call& call, const Exec& exec, Saved& saved);
    nlohmann::json describe_clones(Call& call, const Saved& saved);
    struct Rebuilt;
    std::vector<CUgraph> build_all(Call& call, const nlohmann::json& graphs, const nlohmann::json& sources, CUdeviceptr memory,
                                   Rebuilt& rebuilt);
    void fail_unless_alike(Call& call, CUgraph was, CUgraph is, NodeMap* nodes);
    CUgraphExec instantiate_again(Call& call, const Exec& exec, NodeMap* nodes);
    Change change_again(Call& call, uint64_t number, CUgraphExec made, CUgraphNode node, const nlohmann::json& one,
                        const Rebuilt& rebuilt);
    void recreate_exec(Call& call, const nlohmann::json& json, Rebuilt& rebuilt);
    void recreate_user_object(Call& call, const nlohmann::json& one);

    Session& session_;
    std::unordered_map<CUgraph, std::weak_ptr<Source>> current_;  // graphs as they are now
    std::unordered_map<uint64_t, Exec> execs_;
    std::map<CUgraph, GraphObjects> graph_objects_;
    std::map<uint64_t, UserObject> user_objects_;
    std::map<CUgraph, CUgraph> clone_of_;  // made by cuGraphClone, while both live
    std::map<CUgraph, NodeMap> clones_;    // after a restore: clone -> (node of the original -> node of the clone)
    uint64_t last_tombstone_ = 0;
    std::unique_ptr<nlohmann::json> put_off_;  // null: nothing is
};

}  // namespace cricket::server
