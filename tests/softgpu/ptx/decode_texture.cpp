// SPDX-License-Identifier: MIT
// Textures and surfaces, by handle: the shapes, levels and behaviours outside that nvcc makes of CUDA's
// functions.
#include "decode.h"

namespace softgpu::ptx {

namespace {

// By the position in the lists of shapes below.
void set_shape(TextureAccess& access, int index) {
    using Shape = TextureAccess::Shape;
    constexpr Shape kOf[] = {Shape::D1, Shape::D2, Shape::D3, Shape::Cube, Shape::D1, Shape::D2, Shape::Cube};
    access.shape = kOf[index];
    access.layered = index >= 4;
}

unsigned dimensions(const TextureAccess& access) {
    return access.shape == TextureAccess::Shape::D1 ? 1 : access.shape == TextureAccess::Shape::D2 ? 2 : 3;
}

}  // namespace

// [handle, {coordinates}]: a layer comes first; three coordinates are filled up to four.
void Decoder::texture_place(const Operand& o, TextureAccess& access, Type coordinate) {
    if (o.kind != Operand::Kind::Address || o.parts.size() != 2 || o.offset)
        fail("unsupported texture address");
    if (o.parts[0].kind != Operand::Kind::Register || register_width(o.parts[0]) != 8)
        fail("textures are only supported by a handle in a 64-bit register");
    access.handle = register_at(o.parts[0].reg);
    std::vector<Operand> single = {o.parts[1]};
    const auto& list = o.parts[1].kind == Operand::Kind::Vector ? o.parts[1].parts : single;
    size_t first = access.layered ? 1 : 0, wanted = first + dimensions(access);
    if (list.size() < wanted || list.size() > 4) fail("wrong number of coordinates");
    if (access.layered) access.layer = source(list[0], Type::U32);
    for (size_t k = first; k < wanted; ++k) access.at[k - first] = source(list[k], coordinate);
}

void Decoder::texture_values(const Operand& o, TextureAccess& access, bool written) {
    std::vector<Operand> single = {o};
    const auto& list = o.kind == Operand::Kind::Vector ? o.parts : single;
    if (list.size() != access.count) fail("wrong number of values");
    access.width = access.bytes < 2 ? 2 : access.bytes;
    for (const Operand& part : list)
        if (part.kind == Operand::Kind::Register) access.width = register_width(part);
    for (size_t k = 0; k < list.size(); ++k) {
        if (list[k].kind == Operand::Kind::Sink) continue;
        Type as = access.width == 8 ? Type::B64 : access.width == 4 ? Type::B32 : Type::B16;
        access.value[k] = written ? destination(list[k], access.width) : source(list[k], as);
    }
}

// tex{.level,.grad}.shape.v4.type.coordinate d, [a, c] {, lod or gradients}; tld4.component.2d.v4.type.f32
void Decoder::tex() {
    auto access = std::make_unique<TextureAccess>();
    bool gather = statement_->opcode == "tld4";
    if (gather) {
        int component = take_one({".r", ".g", ".b", ".a"});
        if (component < 0) fail("no component");
        access->gather = static_cast<uint8_t>(component);
    }
    if (take(".level")) access->level = TextureAccess::Level::Explicit;
    if (take(".grad")) access->level = TextureAccess::Level::Gradient;
    take(".base");
    int shape = take_one({".1d", ".2d", ".3d", ".cube", ".a1d", ".a2d", ".acube"});
    if (shape < 0) fail("unsupported kind of texture");
    set_shape(*access, shape);
    if (gather && access->shape != TextureAccess::Shape::D2) fail("unsupported kind of texture");
    if (!take(".v4")) fail("unsupported number of values");
    Type value = take_type(), coordinate = take_type();
    if ((value != Type::F32 && value != Type::U32 && value != Type::S32) ||
        (coordinate != Type::F32 && coordinate != Type::S32))
        fail("unsupported type");
    finish();
    access->integer = coordinate == Type::S32;
    size_t extra = access->level == TextureAccess::Level::Base       ? 0
                   : access->level == TextureAccess::Level::Explicit ? 1
                                                                     : 2;
    expect_operands(2 + extra);
    texture_values(operand(0), *access, true);
    if (access->width != 4) fail("unsupported destination");
    texture_place(operand(1), *access, coordinate);
    if (extra == 1) access->lod[0] = source(2, coordinate);
    if (extra == 2) {
        for (size_t k = 0; k < 2; ++k) {
            const Operand& o = operand(2 + k);
            std::vector<Operand> single = {o};
            const auto& list = o.kind == Operand::Kind::Vector ? o.parts : single;
            if (list.size() < dimensions(*access)) fail("wrong number of gradients");
            for (size_t i = 0; i < dimensions(*access); ++i)
                access->lod[3 * k + i] = source(list[i], Type::F32);
        }
    }
    Instr in = start(gather ? plain::gather() : plain::sample());
    in.data = access.get();
    function_.textures.push_back(std::move(access));
    emit(in);
}

// suld.b.shape{.vec}.type.outside d, [a, c]; sust.b.shape{.vec}.type.outside [a, c], s
void Decoder::surface() {
    auto access = std::make_unique<TextureAccess>();
    bool store = statement_->opcode == "sust";
    if (!take(".b")) fail("formatted surface access is not supported");
    take_any({".ca", ".cg", ".cs", ".cv", ".wb", ".wt"});
    int shape = take_one({".1d", ".2d", ".3d", ".cube", ".a1d", ".a2d", ".acube"});
    if (shape < 0) fail("unsupported kind of surface");
    set_shape(*access, shape);
    int vector = take_one({".v2", ".v4"});
    access->count = vector == 0 ? 2 : vector == 1 ? 4 : 1;
    Type type = take_type();
    access->bytes = static_cast<uint8_t>(size_of(type));
    int outside = take_one({".trap", ".clamp", ".zero"});
    access->outside = static_cast<TextureAccess::Outside>(outside < 0 ? 0 : outside);
    finish();
    expect_operands(2);
    texture_place(operand(store ? 0 : 1), *access, Type::S32);
    texture_values(operand(store ? 1 : 0), *access, !store);
    Instr in = start(store ? plain::surface_store() : plain::surface_load());
    in.data = access.get();
    function_.textures.push_back(std::move(access));
    emit(in);
}

// txq.what.b32 d, [a]
void Decoder::texture_query() {
    auto access = std::make_unique<TextureAccess>();
    int what = take_one({".width", ".height", ".depth"});
    if (what < 0) fail("unsupported query");
    access->query = static_cast<uint8_t>(what);
    take_type();
    finish();
    expect_operands(2);
    const Operand& o = operand(1);
    if (o.kind != Operand::Kind::Address || o.parts.size() != 1 || o.parts[0].kind != Operand::Kind::Register)
        fail("unsupported address");
    access->handle = register_at(o.parts[0].reg);
    access->value[0] = destination(0, Type::B32);
    Instr in = start(plain::texture_query(statement_->opcode == "suq"));
    in.data = access.get();
    function_.textures.push_back(std::move(access));
    emit(in);
}

}  // namespace softgpu::ptx
