// SPDX-License-Identifier: MIT
// What both programs' command lines have in common: a mistake is told in one line that names it, options say their unit.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace cricket::server {

// The words that were not understood come first: "directory is required" does not help who has misspelt an option.
inline std::string failure_line(const CLI::App* app, const CLI::Error& error) {
    const CLI::App* command = app;
    std::string name = app->get_name();
    while (!command->get_subcommands().empty()) {
        command = command->get_subcommands().front();
        name += " " + command->get_name();
    }
    std::string what = error.what();
    const bool wants_command = !command->get_subcommands([](const CLI::App*) { return true; }).empty();
    if (const std::vector<std::string> unknown = app->remaining(true); !unknown.empty())
        what = (wants_command ? "there is no command '" : "unexpected '") + unknown.front() + "'";
    for (char& c : what)
        if (static_cast<unsigned char>(c) < ' ') c = ' ';
    return name + ": " + what + " (see " + name + " --help)\n";
}

// A number with its unit, which --help shows: SECONDS, COUNT.
template <typename Value>
CLI::Option* add_number(CLI::App* app, const std::string& name, Value& value, const std::string& unit, const std::string& text,
                        Value least, Value most) {
    CLI::Validator range = CLI::Range(least, most);
    range.description("");  // else --help shows it beside the unit
    return app->add_option(name, value, text)->type_name(unit)->check(range)->capture_default_str();
}

// For what a script may have meant to fill in: --state-dir "$UNSET".
inline const CLI::Validator not_empty([](std::string& value) { return value.empty() ? std::string("is empty") : std::string(); }, "");

}  // namespace cricket::server
