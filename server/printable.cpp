// SPDX-License-Identifier: MIT
#include "printable.h"

#include <cstring>

namespace cricket::server {

size_t utf8_character(std::string_view text, uint32_t* number) {
    const auto byte = [&](size_t at) { return static_cast<uint8_t>(text[at]); };
    const uint8_t first = byte(0);
    const size_t bytes = first < 0x80 ? 1 : first >> 5 == 0x6 ? 2 : first >> 4 == 0xe ? 3 : first >> 3 == 0x1e ? 4 : 0;
    if (bytes == 0 || bytes > text.size()) return 0;
    *number = bytes == 1 ? first : first & (0x7fu >> bytes);
    for (size_t at = 1; at < bytes; ++at) {
        if (byte(at) >> 6 != 2) return 0;
        *number = *number << 6 | (byte(at) & 0x3f);
    }
    constexpr uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const bool surrogate = *number >= 0xd800 && *number < 0xe000;
    return *number < least[bytes] || *number > 0x10ffff || surrogate ? 0 : bytes;
}

namespace {

bool shows_nothing(uint32_t number) {
    return number < 0x20 || (number >= 0x7f && number < 0xa0) || number == 0x2028 || number == 0x2029;
}

}  // namespace

std::string printable(std::string_view text) {
    std::string shown;
    while (!text.empty()) {
        uint32_t number = 0;
        const size_t bytes = utf8_character(text, &number);
        if (bytes == 0 || shows_nothing(number))
            shown += '?';
        else
            shown += text.substr(0, bytes);
        text.remove_prefix(bytes ? bytes : 1);
    }
    return shown;
}

void make_printable(char* name, size_t room) {
    const std::string shown = printable({name, ::strnlen(name, room - 1)});
    std::memset(name, 0, room);
    std::memcpy(name, shown.data(), shown.size());
}

}  // namespace cricket::server
