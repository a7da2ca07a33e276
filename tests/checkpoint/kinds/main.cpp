// SPDX-License-Identifier: MIT
// kinds [--list] [NAME...]: sets up the kinds named (none named: all that share a process), says "ready", and makes no CUDA call until told:
// SIGUSR1 looks at all of them and leaves the file "looked" in the working folder, SIGTERM looks at them and ends.
#include <csignal>
#include <cstring>

#include "kind.h"

namespace kinds {

std::vector<Kind>& all() {
    static std::vector<Kind> list;
    return list;
}

const char* current = "start";

}  // namespace kinds

static volatile std::sig_atomic_t asked_to_look = 0, asked_to_end = 0;

int main(int argc, char** argv) {
    using namespace kinds;
    std::vector<Kind> chosen;
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--list") == 0) {
            for (const Kind& kind : all()) std::printf("%s%s\n", kind.name, kind.alone ? " alone" : "");
            return 0;
        }
        const size_t before = chosen.size();
        for (const Kind& kind : all())
            if (std::strcmp(kind.name, argv[i]) == 0) chosen.push_back(kind);
        if (chosen.size() == before) {
            std::printf("FAIL there is no kind %s\n", argv[i]);
            return 1;
        }
    }
    if (chosen.empty())
        for (const Kind& kind : all())
            if (!kind.alone) chosen.push_back(kind);
    struct sigaction action = {};
    action.sa_handler = [](int signal) { (signal == SIGTERM ? asked_to_end : asked_to_look) = 1; };
    action.sa_flags = SA_RESTART;
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGUSR1, &action, nullptr);
    RT(cudaSetDevice(0));
    RT(cudaFree(nullptr));
    for (const Kind& kind : chosen) {
        current = kind.name;
        kind.set_up();
    }
    std::printf("ready\n");
    std::fflush(stdout);
    const auto look = [&] {
        for (const Kind& kind : chosen) {
            current = kind.name;
            kind.look();
        }
    };
    while (!asked_to_end) {
        if (asked_to_look) {
            asked_to_look = 0;
            look();
            if (FILE* file = std::fopen("looked", "w")) std::fclose(file);
        }
        usleep(1000);
    }
    look();
    std::printf("PASS %zu kinds\n", chosen.size());
    return std::fflush(stdout) == 0 ? 0 : 1;
}
