// SPDX-License-Identifier: MIT
// Reading textures, reading and writing surfaces, lane by lane: a model of the filtering hardware, with its
// eight fractional bits of the weights.
#include <algorithm>
#include <cmath>

#include "half.h"
#include "ops.h"
#include "runtime.h"

namespace softgpu::ptx::plain {

namespace {

using Address = Texture::Address;
using Shape = TextureAccess::Shape;

const Texture& texture_of(Warp& w, const Instr& in, uint64_t handle, bool surface) {
    auto& latest = w.worker->textures[surface];
    if (latest.handle == handle && latest.texture) return *latest.texture;
    auto& source = w.block->launch.launch.texture;
    auto found = source ? source(handle, surface) : nullptr;
    if (!found) {
        throw Fault(Fault::Kind::IllegalAddress,
                    std::string(surface ? "surface" : "texture") + " handle that is none, " +
                        where_of(w, in, static_cast<unsigned>(std::countr_zero(w.mask))));
    }
    latest = {handle, std::move(found)};
    return *latest.texture;
}

// Four channels as 32-bit words: floats, or integers where they are read as such.
struct Texel {
    bool real = true;
    float f[4] = {0, 0, 0, 1};
    uint32_t i[4] = {0, 0, 0, 1};

    uint32_t word(unsigned k) const { return real ? std::bit_cast<uint32_t>(f[k]) : i[k]; }
};

bool reads_float(const Texture& t) {
    return t.channel == Texture::Channel::Float || (t.channel_bytes < 4 && !t.as_integer);
}

Texel decode(const Texture& t, const uint8_t* at) {
    Texel texel;
    texel.real = reads_float(t);
    for (unsigned k = 0; k < t.channels; ++k) {
        uint32_t raw = 0;
        std::memcpy(&raw, at + k * t.channel_bytes, t.channel_bytes);
        unsigned bits = 8u * t.channel_bytes;
        if (t.channel == Texture::Channel::Float) {
            texel.f[k] = t.channel_bytes == 2 ? static_cast<float>(Half::widen(static_cast<uint16_t>(raw)))
                                              : std::bit_cast<float>(raw);
        } else if (t.channel == Texture::Channel::Signed) {
            int32_t value = static_cast<int32_t>(raw << (32 - bits)) >> (32 - bits);
            texel.i[k] = static_cast<uint32_t>(value);
            if (texel.real)
                texel.f[k] =
                    std::max(-1.0f, static_cast<float>(value) / static_cast<float>((1u << (bits - 1)) - 1));
        } else {
            texel.i[k] = raw;
            if (texel.real) texel.f[k] = static_cast<float>(raw) / static_cast<float>((1u << bits) - 1);
        }
    }
    return texel;
}

// The texel that an index means; false for the border.
bool resolve(int64_t& index, uint32_t size, Address mode) {
    auto n = static_cast<int64_t>(size);
    if (index >= 0 && index < n) return true;
    switch (mode) {
        case Address::Wrap:
            index = (index % n + n) % n;
            return true;
        case Address::Mirror:
            index = (index % (2 * n) + 2 * n) % (2 * n);
            if (index >= n) index = 2 * n - 1 - index;
            return true;
        case Address::Clamp:
            index = std::clamp<int64_t>(index, 0, n - 1);
            return true;
        case Address::Border:
            break;
    }
    return false;
}

struct Place {
    const Texture& t;
    const Texture::Level& level;
    unsigned dimensions;
    uint64_t layer;  // bytes to the layer's beginning

    Address mode(unsigned d) const {
        // Coordinates that are not normalized do not go round.
        auto mode = t.address[d];
        return !t.normalized && (mode == Address::Wrap || mode == Address::Mirror) ? Address::Clamp : mode;
    }
    uint32_t size(unsigned d) const { return d == 0 ? level.width : d == 1 ? level.height : level.depth; }

    Texel read(int64_t x, int64_t y, int64_t z) const {
        int64_t index[3] = {x, y, z};
        for (unsigned d = 0; d < dimensions; ++d) {
            if (resolve(index[d], size(d), mode(d))) continue;
            Texel border;
            border.real = reads_float(t);
            for (unsigned k = 0; k < 4; ++k) {
                border.f[k] = t.border[k];
                border.i[k] = std::bit_cast<uint32_t>(t.border[k]);
            }
            return border;
        }
        for (unsigned d = dimensions; d < 3; ++d) index[d] = 0;
        auto at = static_cast<uint64_t>(index[2]) * level.slice +
                  static_cast<uint64_t>(index[1]) * level.pitch +
                  static_cast<uint64_t>(index[0]) * t.channel_bytes * t.channels;
        return decode(t, level.data + layer + at);
    }
};

int64_t whole(float x) {
    return static_cast<int64_t>(std::clamp(std::floor(x), -1e9f, 1e9f));
}

Texel filtered(const Place& place, const float* at, bool linear) {
    float x[3] = {};
    for (unsigned d = 0; d < place.dimensions; ++d) {
        x[d] = place.t.normalized ? at[d] * static_cast<float>(place.size(d)) : at[d];
        if (std::isnan(x[d])) x[d] = 0;
    }
    if (!linear) return place.read(whole(x[0]), whole(x[1]), whole(x[2]));
    int64_t low[3] = {};
    float weight[3] = {};
    for (unsigned d = 0; d < place.dimensions; ++d) {
        float shifted = x[d] - 0.5f;
        low[d] = whole(shifted);
        weight[d] = std::floor((shifted - std::floor(shifted)) * 256 + 0.5f) / 256;
    }
    Texel sum;
    for (float& f : sum.f) f = 0;
    for (unsigned corner = 0; corner < 1u << place.dimensions; ++corner) {
        float share = 1;
        int64_t index[3] = {};
        for (unsigned d = 0; d < place.dimensions; ++d) {
            bool high = corner >> d & 1;
            share *= high ? weight[d] : 1 - weight[d];
            index[d] = low[d] + high;
        }
        if (share == 0) continue;
        auto texel = place.read(index[0], index[1], index[2]);
        for (unsigned k = 0; k < 4; ++k) sum.f[k] += share * texel.f[k];
    }
    return sum;
}

// The face that a direction points to, and where on it, in [0, 1].
unsigned face_of(float* at) {
    float x = at[0], y = at[1], z = at[2], ax = std::fabs(x), ay = std::fabs(y), az = std::fabs(z);
    unsigned face;
    float s, t, m;
    if (ax >= ay && ax >= az) {
        face = x >= 0 ? 0 : 1, m = ax, s = x >= 0 ? -z : z, t = -y;
    } else if (ay >= az) {
        face = y >= 0 ? 2 : 3, m = ay, s = x, t = y >= 0 ? z : -z;
    } else {
        face = z >= 0 ? 4 : 5, m = az, s = z >= 0 ? x : -x, t = -y;
    }
    at[0] = m == 0 ? 0.5f : (s / m + 1) / 2;
    at[1] = m == 0 ? 0.5f : (t / m + 1) / 2;
    return face;
}

float level_of(const Warp& w, const TextureAccess& a, const Texture& t, unsigned lane, unsigned dimensions) {
    float lod = 0;
    if (a.level == TextureAccess::Level::Explicit) {
        lod = a.integer ? static_cast<float>(w.reg<int32_t>(a.lod[0])[lane]) : w.reg<float>(a.lod[0])[lane];
    } else if (a.level == TextureAccess::Level::Gradient) {
        float longest = 0;
        for (unsigned k = 0; k < 2; ++k) {
            float sum = 0;
            for (unsigned d = 0; d < dimensions; ++d) {
                float step = w.reg<float>(a.lod[3 * k + d])[lane];
                uint32_t size = d == 0 ? t.levels[0].width : d == 1 ? t.levels[0].height : t.levels[0].depth;
                if (t.normalized) step *= static_cast<float>(size);
                sum += step * step;
            }
            longest = std::max(longest, std::sqrt(sum));
        }
        lod = longest > 0 ? std::log2(longest) : 0;
    }
    lod = std::clamp(lod + t.bias, t.min_level, std::max(t.min_level, t.max_level));
    return std::clamp(lod, 0.0f, static_cast<float>(t.levels.size() - 1));
}

// Where a lane reads; at[] becomes the coordinates on the layer or face.
uint64_t layer_of(const Warp& w, const TextureAccess& a, const Texture& t, unsigned lane, float* at) {
    uint64_t layer = 0, count = t.layers;
    if (a.shape == Shape::Cube) count /= 6;
    if (a.layered && count) layer = std::min<uint64_t>(w.reg<uint32_t>(a.layer)[lane], count - 1);
    if (a.shape == Shape::Cube) layer = layer * 6 + face_of(at);
    return std::min<uint64_t>(layer, t.layers - 1);
}

unsigned dimensions_of(Shape shape) {
    return shape == Shape::D1 ? 1 : shape == Shape::D3 ? 3 : 2;
}

void read_coordinates(const Warp& w, const TextureAccess& a, unsigned lane, float* at) {
    for (unsigned d = 0; d < 3; ++d) {
        if (a.at[d] == kNone) continue;
        at[d] = a.integer ? static_cast<float>(w.reg<int32_t>(a.at[d])[lane]) : w.reg<float>(a.at[d])[lane];
    }
}

Texel sample_lane(const Warp& w, const TextureAccess& a, const Texture& t, unsigned lane) {
    float at[3] = {};
    read_coordinates(w, a, lane, at);
    unsigned dimensions = dimensions_of(a.shape);
    uint64_t layer = layer_of(w, a, t, lane, at);
    auto on = [&](size_t level) {
        auto& l = t.levels[level];
        return Place{t, l, dimensions, layer * l.slice};
    };
    if (a.integer) {
        auto place = on(static_cast<size_t>(level_of(w, a, t, lane, dimensions)));
        int64_t index[3] = {};
        for (unsigned d = 0; d < dimensions; ++d) index[d] = w.reg<int32_t>(a.at[d])[lane];
        return place.read(index[0], index[1], index[2]);
    }
    float lod = level_of(w, a, t, lane, dimensions);
    bool linear = t.linear && reads_float(t);
    if (!t.mip_linear) return filtered(on(static_cast<size_t>(std::floor(lod + 0.5f))), at, linear);
    auto low = static_cast<size_t>(lod);
    float part = std::floor((lod - static_cast<float>(low)) * 256 + 0.5f) / 256;
    Texel first = filtered(on(low), at, linear);
    if (part == 0 || !first.real) return first;
    Texel second = filtered(on(std::min(low + 1, t.levels.size() - 1)), at, linear);
    for (unsigned k = 0; k < 4; ++k) first.f[k] = (1 - part) * first.f[k] + part * second.f[k];
    return first;
}

template <class F>
void each_lane(Warp& w, F f) {
    for (uint32_t left = w.mask; left; left &= left - 1) f(static_cast<unsigned>(std::countr_zero(left)));
}

const TextureAccess& access_of(const Instr& in) {
    return *static_cast<const TextureAccess*>(in.data);
}

// Values are collected first: the coordinates may be among the destinations.
void sample_all(Warp& w, const Instr& in) {
    auto& a = access_of(in);
    uint32_t values[4][kLanes];
    each_lane(w, [&](unsigned lane) {
        auto texel = sample_lane(w, a, texture_of(w, in, w.reg<uint64_t>(a.handle)[lane], false), lane);
        for (unsigned k = 0; k < 4; ++k) values[k][lane] = texel.word(k);
    });
    for (unsigned k = 0; k < 4; ++k)
        if (a.value[k] != kNone)
            each_lane(w, [&](unsigned lane) { w.reg<uint32_t>(a.value[k])[lane] = values[k][lane]; });
}

void gather_all(Warp& w, const Instr& in) {
    auto& a = access_of(in);
    uint32_t values[4][kLanes];
    each_lane(w, [&](unsigned lane) {
        auto& t = texture_of(w, in, w.reg<uint64_t>(a.handle)[lane], false);
        float at[3] = {};
        read_coordinates(w, a, lane, at);
        auto& level = t.levels[0];
        Place place{t, level, 2, layer_of(w, a, t, lane, at) * level.slice};
        int64_t low[2];
        for (unsigned d = 0; d < 2; ++d)
            low[d] = whole((t.normalized ? at[d] * static_cast<float>(place.size(d)) : at[d]) - 0.5f);
        constexpr int kOrder[4][2] = {{0, 1}, {1, 1}, {1, 0}, {0, 0}};
        for (unsigned k = 0; k < 4; ++k)
            values[k][lane] = place.read(low[0] + kOrder[k][0], low[1] + kOrder[k][1], 0).word(a.gather);
    });
    for (unsigned k = 0; k < 4; ++k)
        if (a.value[k] != kNone)
            each_lane(w, [&](unsigned lane) { w.reg<uint32_t>(a.value[k])[lane] = values[k][lane]; });
}

// The bytes a lane's surface access means, null when it is outside and that is allowed.
uint8_t* surface_at(Warp& w, const Instr& in, const TextureAccess& a, unsigned lane) {
    auto& t = texture_of(w, in, w.reg<uint64_t>(a.handle)[lane], true);
    auto& level = t.levels[0];
    unsigned bytes = unsigned{a.bytes} * a.count;
    int64_t row = int64_t{level.width} * t.channel_bytes * t.channels;
    int64_t last[3] = {row - bytes, int64_t{level.height} - 1, int64_t{level.depth} - 1};
    int64_t index[3] = {};
    int64_t layer = 0;
    bool outside = false;
    auto bound = [&](int64_t& value, int64_t most) {
        if (value >= 0 && value <= most) return;
        outside = true;
        value = std::clamp<int64_t>(value, 0, std::max<int64_t>(most, 0));
    };
    unsigned dimensions = dimensions_of(a.shape);
    for (unsigned d = 0; d < dimensions; ++d) {
        index[d] = w.reg<int32_t>(a.at[d])[lane];
        bound(index[d], last[d]);
    }
    if (a.shape == Shape::Cube) layer = w.reg<int32_t>(a.at[2])[lane];
    if (a.layered)
        layer = a.shape == Shape::Cube ? layer + 6 * w.reg<int32_t>(a.layer)[lane]
                                       : w.reg<int32_t>(a.layer)[lane];
    if (a.layered || a.shape == Shape::Cube) bound(layer, int64_t{t.layers} - 1);
    if (index[0] % bytes) outside = true;
    if (outside && a.outside == TextureAccess::Outside::Zero) return nullptr;
    if (outside && a.outside == TextureAccess::Outside::Trap)
        throw Fault(Fault::Kind::IllegalAddress, "surface access outside, " + where_of(w, in, lane));
    index[0] -= index[0] % bytes;
    if (last[0] < 0) return nullptr;
    return level.data + static_cast<uint64_t>(layer + index[2]) * level.slice +
           static_cast<uint64_t>(index[1]) * level.pitch + static_cast<uint64_t>(index[0]);
}

void put(const Warp& w, uint32_t reg, unsigned width, unsigned lane, uint64_t value) {
    if (width == 8)
        w.reg<uint64_t>(reg)[lane] = value;
    else if (width == 4)
        w.reg<uint32_t>(reg)[lane] = static_cast<uint32_t>(value);
    else
        w.reg<uint16_t>(reg)[lane] = static_cast<uint16_t>(value);
}

void load_all(Warp& w, const Instr& in) {
    auto& a = access_of(in);
    uint64_t values[4][kLanes] = {};
    each_lane(w, [&](unsigned lane) {
        auto at = surface_at(w, in, a, lane);
        for (unsigned k = 0; at && k < a.count; ++k) std::memcpy(&values[k][lane], at + k * a.bytes, a.bytes);
    });
    for (unsigned k = 0; k < a.count; ++k)
        if (a.value[k] != kNone)
            each_lane(w, [&](unsigned lane) { put(w, a.value[k], a.width, lane, values[k][lane]); });
}

void store_all(Warp& w, const Instr& in) {
    auto& a = access_of(in);
    each_lane(w, [&](unsigned lane) {
        auto at = surface_at(w, in, a, lane);
        for (unsigned k = 0; at && k < a.count; ++k) {
            uint64_t value = a.width == 8   ? w.reg<uint64_t>(a.value[k])[lane]
                             : a.width == 4 ? w.reg<uint32_t>(a.value[k])[lane]
                                            : w.reg<uint16_t>(a.value[k])[lane];
            std::memcpy(at + k * a.bytes, &value, a.bytes);
        }
    });
}

template <bool surface>
void query_all(Warp& w, const Instr& in) {
    auto& a = access_of(in);
    uint32_t values[kLanes];
    each_lane(w, [&](unsigned lane) {
        auto& level = texture_of(w, in, w.reg<uint64_t>(a.handle)[lane], surface).levels[0];
        values[lane] = a.query == 0 ? level.width : a.query == 1 ? level.height : level.depth;
    });
    each_lane(w, [&](unsigned lane) { w.reg<uint32_t>(a.value[0])[lane] = values[lane]; });
}

}  // namespace

Handler sample() {
    return sample_all;
}
Handler gather() {
    return gather_all;
}
Handler surface_load() {
    return load_all;
}
Handler surface_store() {
    return store_all;
}
Handler texture_query(bool surface) {
    return surface ? query_all<true> : query_all<false>;
}

}  // namespace softgpu::ptx::plain
