// SPDX-License-Identifier: MIT
#include "sealed_json.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cinttypes>
#include <cstring>

#include "cricket/unique_fd.h"
#include "printable.h"

namespace cricket::server {
namespace {

using nlohmann::json;

constexpr off_t max_file_bytes = 256 << 20;

std::string seal_of(const std::string& checksum) {
    return ",\n \"checksum\": \"" + checksum + "\"\n}\n";
}

[[noreturn]] void fail(const char* verb, const std::string& path) {
    throw SealError(std::string(verb) + " '" + path + "': " + std::strerror(errno));
}

std::string read_file(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) fail("cannot open", path);
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) fail("cannot stat", path);
    if (!S_ISREG(status.st_mode)) throw SealError("'" + path + "' is no regular file");
    if (status.st_size > max_file_bytes) throw SealError("'" + path + "' is too long to be one of ours");
    std::string text(static_cast<size_t>(status.st_size), '\0');
    size_t have = 0;
    while (have < text.size()) {
        const ssize_t got = ::read(fd.get(), text.data() + have, text.size() - have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail("cannot read", path);
        if (got == 0) break;
        have += static_cast<size_t>(got);
    }
    text.resize(have);
    return text;
}

}  // namespace

std::string hex64(uint64_t value) {
    char text[17];
    std::snprintf(text, sizeof text, "%016" PRIx64, value);
    return text;
}

bool parse_hex64(const std::string& text, uint64_t* value) {
    if (text.size() != 16) return false;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value, 16);
    return error == std::errc() && end == text.data() + text.size();
}

// Of the characters that stand for bytes the first byte is this, and few others have it.
constexpr char lead_of_bytes = '\xf4';
constexpr uint32_t byte_characters = 0x10ff00;

static std::string with_characters(std::string_view name) {
    std::string text;
    for (size_t whole = 0; !name.empty(); name.remove_prefix(std::max<size_t>(whole, 1))) {
        uint32_t number = 0;
        whole = utf8_character(name, &number);
        if (whole && number >= byte_characters) whole = 0;  // it stands for itself: byte by byte
        const auto byte = static_cast<uint8_t>(name[0]);
        if (whole)
            text += name.substr(0, whole);
        else
            text += {lead_of_bytes, '\x8f', static_cast<char>(0xbc | byte >> 6), static_cast<char>(0x80 | (byte & 0x3f))};
    }
    return text;
}

static std::string with_bytes(std::string_view text) {
    std::string name;
    for (size_t whole = 0; !text.empty(); text.remove_prefix(std::max<size_t>(whole, 1))) {
        uint32_t number = 0;
        whole = utf8_character(text, &number);
        if (whole && number >= byte_characters)
            name += static_cast<char>(number - byte_characters);
        else
            name += text.substr(0, std::max<size_t>(whole, 1));
    }
    return name;
}

static json each_text(const json& value, std::string (*changed)(std::string_view)) {
    if (value.is_string()) return changed(value.get_ref<const std::string&>());
    json result = value.is_object() ? json::object() : value.is_array() ? json::array() : value;
    if (value.is_array())
        for (const json& one : value) result.push_back(each_text(one, changed));
    if (value.is_object())
        for (const auto& [key, one] : value.items()) result[changed(key)] = each_text(one, changed);
    return result;
}

static std::string text_of(const json& body) {
    try {
        std::string text = body.dump(1);
        if (text.find(lead_of_bytes) == text.npos) return text;
    } catch (const json::type_error&) {
        // a string that is no UTF-8
    }
    return each_text(body, with_characters).dump(1);
}

std::string write_sealed(const std::string& path, const json& body) {
    std::string text = text_of(body);
    text.resize(text.size() - 2);  // "\n}"
    const std::string checksum = hex64(XXH3_64bits(text.data(), text.size()));
    text += seal_of(checksum);

    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd) fail("cannot create", path);
    size_t done = 0;
    while (done < text.size()) {
        const ssize_t put = ::write(fd.get(), text.data() + done, text.size() - done);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) fail("cannot write", path);
        done += static_cast<size_t>(put);
    }
    if (::fsync(fd.get()) != 0) fail("cannot sync", path);
    return checksum;
}

Sealed read_sealed(const std::string& path, int newest, int oldest) {
    if (oldest == 0) oldest = newest;
    const std::string text = read_file(path);
    json body = json::parse(text, nullptr, false);
    const size_t seal_bytes = seal_of(hex64(0)).size();
    bool sealed = false;
    std::string checksum;
    if (text.size() > seal_bytes) {
        const size_t content = text.size() - seal_bytes;
        checksum = hex64(XXH3_64bits(text.data(), content));
        sealed = text.compare(content, seal_bytes, seal_of(checksum)) == 0;
    }
    // The version first: another one may be sealed in another way.
    if (body.is_object() && body.contains("format") && body["format"].is_number_integer() &&
        (body["format"] < oldest || body["format"] > newest))
        throw SealError("'" + path + "' is of format version " + body["format"].dump() +
                        "; this program reads version " +
                        (oldest < newest ? std::to_string(oldest) + " to " : "") + std::to_string(newest) +
                        (sealed ? "" : " (or the file is corrupt: its checksum is wrong)"));
    if (!sealed) throw SealError("'" + path + "' is corrupt or truncated: its checksum is wrong");
    if (!body.is_object() || !body.contains("format"))
        throw SealError("'" + path + "' has no format version");
    body.erase("checksum");
    if (text.find(lead_of_bytes) != text.npos) body = each_text(body, with_bytes);
    return {std::move(body), std::move(checksum)};
}

}  // namespace cricket::server
