# SPDX-License-Identifier: MIT
# What the generator asks about a C type: is it a handle, how wide is it on the wire, does it hide a pointer.
from clang.cindex import TypeKind

WIRE = {
    TypeKind.INT: "i32", TypeKind.SHORT: "i32", TypeKind.SCHAR: "i32", TypeKind.CHAR_S: "i32", TypeKind.ENUM: "i32",
    TypeKind.UINT: "u32", TypeKind.USHORT: "u32", TypeKind.UCHAR: "u32", TypeKind.BOOL: "u32",
    TypeKind.LONG: "u64", TypeKind.ULONG: "u64", TypeKind.LONGLONG: "u64", TypeKind.ULONGLONG: "u64",
    TypeKind.FLOAT: "f32",
}


def spelling(type_):
    """The type as C++ text, without const at the outermost level."""
    text = type_.spelling
    return text.removeprefix("const ") if type_.is_const_qualified() else text


def typedef_chain(type_):
    while True:
        yield spelling(type_).removeprefix("struct ")
        declaration = type_.get_declaration()
        if type_.kind not in (TypeKind.TYPEDEF, TypeKind.ELABORATED) or not declaration.underlying_typedef_type.spelling:
            return
        type_ = declaration.underlying_typedef_type


def handle_of(type_, handles):
    """The spec.Handle of a handle type, else None."""
    return next((handles[name] for name in typedef_chain(type_) if name in handles), None)


def is_pointer(type_):
    return type_.get_canonical().kind == TypeKind.POINTER


def is_function_pointer(type_):
    canonical = type_.get_canonical()
    return canonical.kind == TypeKind.POINTER and canonical.get_pointee().kind == TypeKind.FUNCTIONPROTO


def is_record(type_):
    return type_.get_canonical().kind == TypeKind.RECORD


def is_complete(type_):
    return type_.get_canonical().get_size() > 0


def is_void(type_):
    return type_.get_canonical().kind == TypeKind.VOID


def is_char(type_):
    return type_.get_canonical().kind == TypeKind.CHAR_S


def wire_of(type_):
    """Wire type of a scalar, None when it is not one."""
    return WIRE.get(type_.get_canonical().kind)


def members(type_):
    return list(type_.get_canonical().get_fields())


def hidden_pointers(type_, handles, path=""):
    """Paths of the pointers and handles inside a struct, arrays and nested structs and unions included."""
    if handle_of(type_, handles) or is_pointer(type_):
        return [path]
    canonical = type_.get_canonical()
    if canonical.kind == TypeKind.CONSTANTARRAY:
        return hidden_pointers(canonical.element_type, handles, path + "[]")
    if canonical.kind != TypeKind.RECORD:
        return []
    found = []
    for member in canonical.get_fields():
        name = f"{path}.{member.spelling}" if path and member.spelling else path or member.spelling
        found += hidden_pointers(member.type, handles, name)
    return found
