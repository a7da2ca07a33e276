// SPDX-License-Identifier: MIT
// Both ends as generated from mini/spec, joined by XDR messages in memory, over a driver that this file is.
// What the application passes must arrive, what the driver answers must come back, and nothing else.
#include <gtest/gtest.h>
#include <rpc/rpc.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "calls.h"
#include "client/trace.h"
#include "cricket/wire.h"
#include "custom.h"
#include "dispatch.h"
#include "rpc/memory_xdr.h"
#include "symbols.h"

namespace cricket::server {
class Session {};
}  // namespace cricket::server

using namespace cricket;
using server::DispatchEntry;
using server::Effect;

namespace {

// ---- the driver: pointers it hands out are addresses in this array, never what the application sees ----
char driver_objects[4096];
unsigned driver_objects_made;
template <class H>
H driver_object() {
    return reinterpret_cast<H>(&driver_objects[100 + ++driver_objects_made % 3900]);
}

struct Seen {  // what the driver was called with
    std::string function;
    CUstream stream = nullptr;
    CUevent event = nullptr;
    CUfunction function_handle = nullptr;
    uint64_t a = 0, b = 0, c = 0;
    double d = 0;
    int calls = 0;
} seen;

CUresult event_make(CUevent* event, unsigned flags) {
    seen.a = flags;
    if (flags == 99) return CUDA_ERROR_INVALID_VALUE;
    *event = driver_object<CUevent>();
    return CUDA_SUCCESS;
}
CUresult event_end(CUevent event) {
    seen.event = event;
    return CUDA_SUCCESS;
}
CUresult scalars(int* sum, int a, unsigned short b, size_t c, float d, CUmini_mode mode,
                 CUdeviceptr address) {
    *sum = a + b + static_cast<int>(mode);
    seen.a = c;
    seen.b = address;
    seen.d = static_cast<double>(d);
    return CUDA_SUCCESS;
}
CUresult optional(size_t* first, size_t* second, const CUplain* input) {
    seen.a = first != nullptr;
    seen.b = second != nullptr;
    seen.c = input ? static_cast<uint64_t>(input->id) : 0;
    if (first) *first = 11;
    if (second) *second = 22;
    return CUDA_SUCCESS;
}
CUresult plain(CUplain* out, CUplain by_value, const CUplain* by_pointer) {
    *out = by_value;
    out->id += by_pointer->id;
    std::memcpy(out->bytes, by_pointer->bytes, sizeof out->bytes);
    return CUDA_SUCCESS;
}
CUresult array_in(unsigned long long* sum, const unsigned* values, size_t count) {
    *sum = 0;
    for (size_t i = 0; i < count; ++i) *sum += values[i];
    seen.a = values != nullptr;
    return CUDA_SUCCESS;
}
CUresult array_out(unsigned* values, size_t count, unsigned start) {
    for (size_t i = 0; i < count; ++i) values[i] = start + static_cast<unsigned>(i);
    return CUDA_SUCCESS;
}
CUresult array_counted(unsigned* values, size_t* count) {
    if (values) {
        for (size_t i = 0; i < *count && i < 3; ++i) values[i] = 100 + static_cast<unsigned>(i);
    }
    *count = 3;
    return CUDA_SUCCESS;
}
CUresult handles_in(unsigned* known, const CUevent* events, unsigned count) {
    *known = 0;
    for (unsigned i = 0; i < count; ++i) {
        const auto* address = reinterpret_cast<const char*>(events[i]);
        *known += address >= driver_objects && address < driver_objects + sizeof driver_objects;
    }
    return CUDA_SUCCESS;
}
CUresult handles_out(CUevent* events, unsigned count) {
    if (count > 1000) return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count; ++i) events[i] = i == 1 ? nullptr : driver_object<CUevent>();
    return CUDA_SUCCESS;
}
CUresult text_in(size_t* length, const char* text) {
    *length = std::strlen(text);
    return CUDA_SUCCESS;
}
CUresult text_out(char* text, int size, CUdevice device) {
    std::snprintf(text, static_cast<size_t>(size), "device %d", device);
    return CUDA_SUCCESS;
}
CUresult name_of(const char** name, CUfunction function) {
    seen.function_handle = function;
    *name = "a_kernel";
    return CUDA_SUCCESS;
}
CUresult in_out(CUplain* value, CUdeviceptr address) {
    value->id += static_cast<int>(address);
    return CUDA_SUCCESS;
}
CUresult null_only(int* out, void* extra, void (*callback)(void*)) {
    *out = extra == nullptr && callback == nullptr;
    return CUDA_SUCCESS;
}
CUresult skipped(int* out, void* ignored) {
    *out = ignored == nullptr;
    return CUDA_SUCCESS;
}
CUresult address(void* address, CUdeviceptr* out) {
    *out = reinterpret_cast<CUdeviceptr>(address);
    return CUDA_SUCCESS;
}
CUresult nested(unsigned* sum, const CUnested* nested) {
    *sum = 2 * nested->count;
    seen.event = nested->event;
    seen.function_handle = nested->function;
    seen.a = reinterpret_cast<uint64_t>(nested->reserved);
    seen.b = reinterpret_cast<uint64_t>(nested->device_address);
    return CUDA_SUCCESS;
}
CUresult texture(CUtexObject* out, CUtexObject in) {
    seen.a = in;
    *out = 0x7777;
    return CUDA_SUCCESS;
}
CUresult surface(CUsurfObject* out, unsigned value) {
    *out = value;
    return CUDA_SUCCESS;
}
CUresult surface_end(CUsurfObject object) {
    seen.a = object;
    return CUDA_SUCCESS;
}
CUresult work(CUdeviceptr target, unsigned char value, CUstream stream) {
    seen.function = "work";
    seen.a = target;
    seen.b = value;
    seen.stream = stream;
    ++seen.calls;
    return CUDA_SUCCESS;
}
CUresult context_use(CUcontext) {
    return CUDA_SUCCESS;
}
CUresult old_v1(int* out) {
    return *out = 1, CUDA_SUCCESS;
}
CUresult old_v2(int* out) {
    return *out = 2, CUDA_SUCCESS;
}

// ---- the two ends of one session ----
server::DriverTable driver_table() {
    server::DriverTable table;
    table.cuEventMake = event_make;
    table.cuEventEnd = event_end;
    table.cuEventOwned = [](CUevent* made, CUevent, CUdevice) { return event_make(made, 0); };
    table.cuEventRate = [](CUevent, CUmini_mode, int) { return CUDA_SUCCESS; };
    table.cuScalars = scalars;
    table.cuOptional = optional;
    table.cuPlain = plain;
    table.cuArrayIn = array_in;
    table.cuArrayOut = array_out;
    table.cuArrayCounted = array_counted;
    table.cuHandlesIn = handles_in;
    table.cuHandlesOut = handles_out;
    table.cuTextIn = text_in;
    table.cuTextOut = text_out;
    table.cuNameOf = name_of;
    table.cuInOut = in_out;
    table.cuNullOnly = null_only;
    table.cuSkipped = skipped;
    table.cuAddress = address;
    table.cuStruct = nested;
    table.cuTexture = texture;
    table.cuSurface = surface;
    table.cuSurfaceEnd = surface_end;
    table.cuWork = work;
    table.cuContextUse = context_use;
    table.cuGiven = [](CUevent, unsigned, unsigned, CUstream) {
        seen.a = 77;
        return CUDA_SUCCESS;
    };
    table.cuOld_v1 = old_v1;
    table.cuOld_v2 = old_v2;
    return table;  // cuMissing stays null
}

const auto default_stream_handle = reinterpret_cast<CUstream>(0x5000);
const auto thread_stream_handle = reinterpret_cast<CUstream>(0x6000);

struct Link {
    server::Session session;
    server::DriverTable driver = driver_table();
    server::Objects objects;
    std::vector<char> reply = std::vector<char>(1 << 20);
    uint64_t reply_room = 0;
    Effect effect;
    bool of_context = false;
    bool posted = false;
    bool initialized = true;
    CUresult context = CUDA_SUCCESS;
    uint32_t flags = 0;
    std::vector<std::string> refused;
};
Link* link_ = nullptr;

server::Call make_call(const rpc::Credential& credential) {
    return server::Call{link_->session, link_->driver, link_->objects, credential};
}

// Executes an encoded call and leaves the encoded result in link_->reply; its size.
size_t execute(uint32_t procedure, char* call_bytes, size_t call_size, const client::CallOptions& options) {
    const DispatchEntry& entry = server::dispatch_table[procedure - wire::first_cuda_proc];
    std::vector<char> args(entry.args_size), res(entry.res_size);
    XDR in;
    rpc::memory_xdr(&in, call_bytes, static_cast<u_int>(call_size), XDR_DECODE);
    EXPECT_TRUE(entry.xdr_args(&in, args.data())) << entry.name;
    EXPECT_EQ(xdr_getpos(&in), call_size);
    server::Call call = make_call({1, 0, 1, options.flags});
    entry.serve(call, args.data(), res.data());
    link_->effect = {};
    link_->of_context = entry.of_context;
    if (entry.effect && *reinterpret_cast<int32_t*>(res.data()) == CUDA_SUCCESS)
        entry.effect(args.data(), res.data(), &link_->effect);
    XDR out;
    rpc::memory_xdr(&out, link_->reply.data(), static_cast<u_int>(link_->reply.size()), XDR_ENCODE);
    EXPECT_TRUE(entry.xdr_res(&out, res.data())) << entry.name;
    const size_t size = xdr_getpos(&out);
    xdr_free(entry.xdr_args, args.data());
    xdr_free(entry.xdr_res, res.data());
    return size;
}

std::vector<char> encode(xdrproc_t routine, void* message) {
    std::vector<char> bytes(1 << 20);
    XDR out;
    rpc::memory_xdr(&out, bytes.data(), static_cast<u_int>(bytes.size()), XDR_ENCODE);
    EXPECT_TRUE(routine(&out, message));
    bytes.resize(xdr_getpos(&out));
    return bytes;
}

CUevent make_event() {
    CUevent event = nullptr;
    EXPECT_EQ(cuEventMake(&event, 0), CUDA_SUCCESS);
    return event;
}

CUfunction add_function(HandleKind kind, void* driver_handle) {
    return reinterpret_cast<CUfunction>(link_->objects.add(kind, driver_handle));
}

class Roundtrip : public ::testing::Test {
  protected:
    void SetUp() override { link_ = &own_; }
    void TearDown() override { link_ = nullptr; }
    Link own_;
};

}  // namespace

// ---- what the generated ends ask of hand-written code ----
namespace cricket::client {
CUresult call(Proc proc, xdrproc_t xdr_args, void* args, xdrproc_t xdr_res, void* res,
              const CallOptions& options) {
    std::vector<char> message = encode(xdr_args, args);
    const size_t size = execute(static_cast<uint32_t>(proc), message.data(), message.size(), options);
    link_->flags = options.flags;
    link_->posted = false;
    link_->reply_room = options.reply_bytes;
    EXPECT_LE(size, 256 + options.reply_bytes) << proc_name(proc);
    XDR in;
    rpc::memory_xdr(&in, link_->reply.data(), static_cast<u_int>(size), XDR_DECODE);
    EXPECT_TRUE(xdr_res(&in, res));
    EXPECT_EQ(xdr_getpos(&in), size);
    return static_cast<CUresult>(*static_cast<int32_t*>(res));
}
void release_reply(bool) {
    std::fill(link_->reply.begin(), link_->reply.end(), char(0x55));
}
CUresult post(Proc proc, xdrproc_t xdr_args, void* args, const CallOptions& options) {
    std::vector<char> message = encode(xdr_args, args);
    execute(static_cast<uint32_t>(proc), message.data(), message.size(), options);
    link_->posted = true;
    link_->flags = options.flags;
    return CUDA_SUCCESS;
}
bool initialized() { return link_->initialized; }
CUresult need_context() { return link_->initialized ? link_->context : CUDA_ERROR_NOT_INITIALIZED; }
uint64_t current_context() { return link_->initialized ? 1 : 0; }
CUresult unsupported(const char* function, const char* reason, const void*) {
    link_->refused.push_back(std::string(function) + ": " + reason);
    return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult impl_cuByHand(uint32_t call_flags, int a, CUstream) {
    cuByHand_args message{};
    message.a = a;
    message.blob = {"xyz", 3, true, false};
    cuByHand_res reply{};
    const CUresult status = call(message, reply, {call_flags});
    seen.c = reply.echo;
    release_reply();
    return status;
}
CUresult impl_cuLocal(int* out) {
    return *out = 42, CUDA_SUCCESS;
}
}  // namespace cricket::client

namespace cricket::server {
bool driver_function(Call& call, uint64_t number, CUfunction* out) {
    return unloaded_function(call.objects, number, out);
}

uint64_t Call::home() const { return credential.context; }

CUstream Call::default_stream() {
    return credential.flags & wire::per_thread_default_stream ? thread_stream_handle : default_stream_handle;
}
bool Call::stream(uint64_t number, CUstream* out) {
    *out = number ? static_cast<CUstream>(objects.get(HandleKind::Stream, number)) : default_stream();
    return *out != nullptr;
}
void serve_cuServed(Call&, const cuServed_args& args, cuServed_res& res) {
    res.out = args.in * 2;
}
void serve_extraProcedure(Call&, const extraProcedure_args& args, extraProcedure_res& res) {
    res.b = args.a + 1;
}
}  // namespace cricket::server

// ---- the tests ----
TEST_F(Roundtrip, HandlesAreSessionNumbersInTheApplicationAndPointersInTheDriver) {
    CUevent event = make_event();
    ASSERT_NE(event, nullptr);
    EXPECT_EQ(server::Objects::kind_of(reinterpret_cast<uint64_t>(event)), HandleKind::Event);
    void* behind = link_->objects.get(HandleKind::Event, reinterpret_cast<uint64_t>(event));
    EXPECT_EQ(cuEventEnd(event), CUDA_SUCCESS);
    EXPECT_EQ(seen.event, behind);
    EXPECT_EQ(cuEventEnd(event), CUDA_ERROR_INVALID_HANDLE) << "gone";
    EXPECT_EQ(cuEventMake(nullptr, 0), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(Roundtrip, HandlesOfTheWrongKindAreRefusedAsTheDriverWould) {
    CUevent event = make_event();
    EXPECT_EQ(cuContextUse(reinterpret_cast<CUcontext>(event)), CUDA_ERROR_INVALID_CONTEXT);
    EXPECT_EQ(cuContextUse(nullptr), CUDA_SUCCESS) << "the driver judges null";
    EXPECT_EQ(cuWork(0, 0, reinterpret_cast<CUstream>(event)), CUDA_SUCCESS)
        << "posted: no answer to wait for";
    EXPECT_NE(seen.function, "work");
}

TEST_F(Roundtrip, FailedCallsBringNothingBack) {
    auto event = reinterpret_cast<CUevent>(0x1234);
    EXPECT_EQ(cuEventMake(&event, 99), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(event, reinterpret_cast<CUevent>(0x1234));
    EXPECT_EQ(link_->effect.kind, Effect::Kind::None);
}

TEST_F(Roundtrip, EffectsTellTheJournal) {
    CUevent first = make_event();
    const auto number = reinterpret_cast<uint64_t>(first);
    EXPECT_EQ(link_->effect.kind, Effect::Kind::Create);
    EXPECT_EQ(link_->effect.object, number);
    EXPECT_TRUE(link_->of_context);
    CUevent second = nullptr;
    EXPECT_EQ(cuEventOwned(&second, first, 0), CUDA_SUCCESS);
    EXPECT_EQ(link_->effect.object, reinterpret_cast<uint64_t>(second));
    EXPECT_EQ(link_->effect.owner, number);
    EXPECT_FALSE(link_->of_context);
    EXPECT_EQ(cuEventRate(first, CU_MINI_HIGH, 5), CUDA_SUCCESS);
    EXPECT_EQ(link_->effect.kind, Effect::Kind::State);
    EXPECT_EQ(link_->effect.object, number);
    EXPECT_EQ(link_->effect.key[0], 7u);
    EXPECT_EQ(link_->effect.key[1], 5u);
    EXPECT_EQ(cuEventEnd(first), CUDA_SUCCESS);
    EXPECT_EQ(link_->effect.kind, Effect::Kind::Destroy);
    EXPECT_EQ(link_->effect.object, number);
}

TEST_F(Roundtrip, ScalarsKeepTheirValues) {
    int sum = 0;
    EXPECT_EQ(cuScalars(&sum, -70000, 65535, size_t(1) << 40, -1.5f, CU_MINI_LOW, 0xfedcba9876543210),
              CUDA_SUCCESS);
    EXPECT_EQ(sum, -70000 + 65535 - 1);
    EXPECT_EQ(seen.a, uint64_t(1) << 40);
    EXPECT_EQ(seen.b, 0xfedcba9876543210);
    EXPECT_EQ(seen.d, -1.5);
}

TEST_F(Roundtrip, OptionalPointersAreAskedForOnlyWhenGiven) {
    size_t first = 0;
    EXPECT_EQ(cuOptional(&first, nullptr, nullptr), CUDA_SUCCESS);
    EXPECT_EQ(first, 11u);
    EXPECT_EQ(seen.a, 1u);
    EXPECT_EQ(seen.b, 0u);
    EXPECT_EQ(seen.c, 0u);
    CUplain input{};
    input.id = 9;
    EXPECT_EQ(cuOptional(nullptr, nullptr, &input), CUDA_SUCCESS);
    EXPECT_EQ(seen.a, 0u);
    EXPECT_EQ(seen.c, 9u);
}

TEST_F(Roundtrip, PlainStructsCrossAsBytes) {
    CUplain value{1, "0123456789", {1.0f}}, pointed{2, "abcdefghij", {2.0f}}, out{};
    EXPECT_EQ(cuPlain(&out, value, &pointed), CUDA_SUCCESS);
    EXPECT_EQ(out.id, 3);
    EXPECT_STREQ(reinterpret_cast<char*>(out.bytes), "abcdefghij");
    EXPECT_EQ(out.value.f, 1.0f);
    EXPECT_EQ(cuPlain(&out, value, nullptr), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(cuInOut(&out, 40), CUDA_SUCCESS);
    EXPECT_EQ(out.id, 43);
}

TEST_F(Roundtrip, Arrays) {
    const unsigned values[] = {1, 2, 3, 0xffffffff};
    unsigned long long sum = 0;
    EXPECT_EQ(cuArrayIn(&sum, values, 4), CUDA_SUCCESS);
    EXPECT_EQ(sum, 0x100000005);
    EXPECT_EQ(cuArrayIn(&sum, nullptr, 0), CUDA_SUCCESS);
    EXPECT_EQ(seen.a, 0u) << "null stays null";
    EXPECT_EQ(cuArrayIn(&sum, values, size_t(1) << 60), CUDA_ERROR_INVALID_VALUE)
        << "more than a message holds";
    std::vector<unsigned> out(1000);
    EXPECT_EQ(cuArrayOut(out.data(), out.size(), 5), CUDA_SUCCESS);
    EXPECT_EQ(out.front(), 5u);
    EXPECT_EQ(out.back(), 1004u);
    EXPECT_GE(link_->reply_room, 4000u);
    EXPECT_EQ(cuArrayOut(nullptr, 1, 5), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(Roundtrip, ArraysWhoseCountComesBack) {
    size_t count = 0;
    EXPECT_EQ(cuArrayCounted(nullptr, &count), CUDA_SUCCESS);
    EXPECT_EQ(count, 3u);
    unsigned values[5] = {7, 7, 7, 7, 7};
    count = 5;
    EXPECT_EQ(cuArrayCounted(values, &count), CUDA_SUCCESS);
    EXPECT_EQ(count, 3u);
    EXPECT_EQ(values[2], 102u);
    EXPECT_EQ(values[3], 7u) << "not touched";
}

TEST_F(Roundtrip, ArraysOfHandles) {
    CUevent events[3] = {make_event(), make_event(), nullptr};
    unsigned known = 0;
    EXPECT_EQ(cuHandlesIn(&known, events, 3), CUDA_SUCCESS);
    EXPECT_EQ(known, 2u);
    events[2] = reinterpret_cast<CUevent>(0x123450);
    EXPECT_EQ(cuHandlesIn(&known, events, 3), CUDA_ERROR_INVALID_HANDLE);
    EXPECT_EQ(cuHandlesOut(events, 3), CUDA_SUCCESS);
    EXPECT_EQ(events[1], nullptr);
    EXPECT_EQ(cuHandlesIn(&known, events, 3), CUDA_SUCCESS);
    EXPECT_EQ(known, 2u);
}

TEST_F(Roundtrip, Texts) {
    size_t length = 0;
    EXPECT_EQ(cuTextIn(&length, "twelve chars"), CUDA_SUCCESS);
    EXPECT_EQ(length, 12u);
    EXPECT_EQ(cuTextIn(&length, nullptr), CUDA_ERROR_INVALID_VALUE);
    char text[16];
    std::memset(text, 'z', sizeof text);
    EXPECT_EQ(cuTextOut(text, sizeof text, 3), CUDA_SUCCESS);
    EXPECT_STREQ(text, "device 3");
    EXPECT_EQ(cuTextOut(text, -1, 3), CUDA_ERROR_INVALID_VALUE);
    const CUfunction function = add_function(HandleKind::Function, &driver_objects[60]);
    const char *name = nullptr, *again = nullptr;
    EXPECT_EQ(cuNameOf(&name, function), CUDA_SUCCESS);
    EXPECT_EQ(cuNameOf(&again, function), CUDA_SUCCESS);
    EXPECT_STREQ(name, "a_kernel");
    EXPECT_EQ(name, again) << "kept once";
}

TEST_F(Roundtrip, KernelsPassForFunctions) {
    const CUfunction kernel = add_function(HandleKind::Kernel, &driver_objects[61]);
    const char* name = nullptr;
    EXPECT_EQ(cuNameOf(&name, kernel), CUDA_SUCCESS);
    EXPECT_EQ(reinterpret_cast<char*>(seen.function_handle), &driver_objects[61]);
    EXPECT_EQ(cuNameOf(&name, reinterpret_cast<CUfunction>(make_event())), CUDA_ERROR_INVALID_HANDLE);
}

TEST_F(Roundtrip, NullSkipAndAddress) {
    int out = 0;
    EXPECT_EQ(cuNullOnly(&out, nullptr, nullptr), CUDA_SUCCESS);
    EXPECT_EQ(out, 1);
    EXPECT_EQ(cuNullOnly(&out, &out, nullptr), CUDA_ERROR_NOT_SUPPORTED);
    EXPECT_EQ(link_->refused.back(), "cuNullOnly: extra other than NULL");
    EXPECT_EQ(cuSkipped(&out, &out), CUDA_SUCCESS);
    EXPECT_EQ(out, 1);
    CUdeviceptr back = 0;
    EXPECT_EQ(cuAddress(&out, &back), CUDA_SUCCESS);
    EXPECT_EQ(back, reinterpret_cast<CUdeviceptr>(&out));
}

TEST_F(Roundtrip, StructsWithHandlesAndPointers) {
    CUnested nested{make_event(), add_function(HandleKind::Kernel, &driver_objects[62]), 3000, nullptr, &nested};
    unsigned sum = 0;
    EXPECT_EQ(cuStruct(&sum, &nested), CUDA_SUCCESS);
    EXPECT_EQ(sum, 6000u);
    EXPECT_EQ(seen.event, link_->objects.get(HandleKind::Event, reinterpret_cast<uint64_t>(nested.event)));
    EXPECT_EQ(reinterpret_cast<char*>(seen.function_handle), &driver_objects[62]);
    EXPECT_EQ(seen.b, reinterpret_cast<uint64_t>(&nested)) << "addresses cross as they are";
    nested.reserved = &nested;
    EXPECT_EQ(cuStruct(&sum, &nested), CUDA_ERROR_NOT_SUPPORTED);
    nested.reserved = nullptr;
    nested.event = reinterpret_cast<CUevent>(0x998880);
    EXPECT_EQ(cuStruct(&sum, &nested), CUDA_ERROR_INVALID_HANDLE);
}

TEST_F(Roundtrip, HandlesThatAreIntegers) {
    const CUtexObject known = link_->objects.add(HandleKind::TexObject, reinterpret_cast<void*>(0x4444));
    CUtexObject out = 0;
    EXPECT_EQ(cuTexture(&out, known), CUDA_SUCCESS);
    EXPECT_EQ(seen.a, 0x4444u);
    EXPECT_EQ(reinterpret_cast<uint64_t>(link_->objects.get(HandleKind::TexObject, out)), 0x7777u);
    EXPECT_EQ(link_->effect.kind, Effect::Kind::None) << "out, not new";
}

TEST_F(Roundtrip, ValuesOfTheDriverAreTheApplications) {
    CUsurfObject out = 0;
    EXPECT_EQ(cuSurface(&out, 5), CUDA_SUCCESS);
    EXPECT_EQ(out, 5u);
    EXPECT_EQ(link_->effect.kind, Effect::Kind::Create);
    EXPECT_EQ(link_->effect.value_of, HandleKind::SurfObject);
    EXPECT_EQ(link_->effect.object, 5u) << "the executor makes a number of it";
    const uint64_t number = link_->objects.find_value(HandleKind::SurfObject, 0, 5);
    EXPECT_EQ(server::Objects::kind_of(number), HandleKind::SurfObject);
    EXPECT_EQ(link_->objects.find_value(HandleKind::SurfObject, 1, 5), 0u) << "of another context";
    EXPECT_EQ(cuSurface(&out, 0xffffffffu), CUDA_SUCCESS);
    seen.a = 0;
    EXPECT_EQ(cuSurfaceEnd(6), CUDA_SUCCESS) << "what is no object is ended";
    EXPECT_EQ(seen.a, 0u) << "the driver is not asked";
    EXPECT_EQ(cuSurfaceEnd(5), CUDA_SUCCESS);
    EXPECT_EQ(seen.a, 5u);
    EXPECT_EQ(link_->effect.kind, Effect::Kind::Destroy);
    link_->objects.remove(HandleKind::SurfObject, number);  // as the journal has it done
    EXPECT_EQ(cuSurfaceEnd(5), CUDA_SUCCESS);
}

TEST_F(Roundtrip, WhatMustBeGivenIsLookedAtFirst) {
    CUevent event = nullptr;
    ASSERT_EQ(cuEventMake(&event, 0), CUDA_SUCCESS);
    seen.a = 0;
    for (const bool initialized : {true, false}) {
        link_->initialized = initialized;
        EXPECT_EQ(cuGiven(nullptr, 0, 0, nullptr), CUDA_ERROR_INVALID_VALUE) << "in the order of the line";
        EXPECT_EQ(cuGiven(nullptr, 1, 0, nullptr), CUDA_ERROR_OUT_OF_MEMORY);
        EXPECT_EQ(cuGiven(event, 1, 1, nullptr), CUDA_ERROR_INVALID_VALUE) << "reserved";
        EXPECT_EQ(cuGiven_ptsz(event, 1, 1, nullptr), CUDA_ERROR_INVALID_VALUE);
    }
    EXPECT_EQ(cuGiven_ptsz(nullptr, 0, 0, nullptr), CUDA_ERROR_NOT_INITIALIZED);
    link_->initialized = true;
    link_->context = CUDA_ERROR_INVALID_HANDLE;
    EXPECT_EQ(cuGiven_ptsz(nullptr, 0, 0, nullptr), CUDA_ERROR_INVALID_HANDLE);
    EXPECT_EQ(seen.a, 0u);
    EXPECT_EQ(cuGiven(event, 1, 0, nullptr), CUDA_SUCCESS) << "only the alias asks for a context";
    EXPECT_EQ(seen.a, 77u);
}

TEST_F(Roundtrip, LegacyFunctionsAnswerForThemselves) {
    int out = 7;
    EXPECT_EQ(cuAncient(&out), CUDA_ERROR_INVALID_CONTEXT);
    EXPECT_EQ(out, 7);
    link_->initialized = false;
    EXPECT_EQ(cuAncient(&out), CUDA_ERROR_NOT_INITIALIZED);
}

TEST_F(Roundtrip, ThreadDefaultVariantsSetTheFlagOfTheSameProcedure) {
    EXPECT_EQ(cuWork(1, 2, nullptr), CUDA_SUCCESS);
    EXPECT_TRUE(link_->posted);
    EXPECT_EQ(seen.stream, default_stream_handle);
    EXPECT_EQ(cuWork_ptsz(1, 2, nullptr), CUDA_SUCCESS);
    EXPECT_EQ(seen.stream, thread_stream_handle);
    EXPECT_EQ(cuWorkNow_ptds(5, 6), CUDA_SUCCESS);
    EXPECT_EQ(seen.stream, thread_stream_handle) << "on-stream";
    EXPECT_EQ(seen.a, 5u);
    EXPECT_EQ(seen.b, 6u);
    EXPECT_EQ(cuByHand_ptsz(1, nullptr), CUDA_ERROR_NOT_SUPPORTED) << "no such driver function";
    EXPECT_EQ(link_->flags, wire::per_thread_default_stream);
}

TEST_F(Roundtrip, OtherClasses) {
    int out = 0;
    EXPECT_EQ(cuLocal(&out), CUDA_SUCCESS);
    EXPECT_EQ(out, 42);
    EXPECT_EQ(cuServed(&out, 21), CUDA_SUCCESS);
    EXPECT_EQ(out, 42);
    EXPECT_EQ(cuNever(nullptr), CUDA_ERROR_NOT_SUPPORTED);
    EXPECT_EQ(link_->refused.back(), "cuNever: nobody \\ knows");
    EXPECT_EQ(cuMissing(&out), CUDA_ERROR_NOT_SUPPORTED) << "the driver lacks it";
    extraProcedure_args args{41};
    extraProcedure_res res{};
    EXPECT_EQ(client::call(args, res), CUDA_SUCCESS);
    EXPECT_EQ(res.b, 42u);
}

TEST_F(Roundtrip, SymbolTableKnowsEveryAbi) {
    std::map<std::pair<std::string, int>, void*> legacy, per_thread;
    for (size_t i = 0; i < client::symbol_count; ++i) {
        const client::Symbol& symbol = client::symbols[i];
        (symbol.per_thread ? per_thread : legacy)[{symbol.name, symbol.version}] = symbol.function;
    }
    using OldFunction = CUresult (*)(int*);
    int out = 0;
    EXPECT_EQ(reinterpret_cast<OldFunction>(legacy.at({"cuOld", 2000}))(&out), CUDA_SUCCESS);
    EXPECT_EQ(out, 1);
    EXPECT_EQ(reinterpret_cast<OldFunction>(legacy.at({"cuOld", 3020}))(&out), CUDA_SUCCESS);
    EXPECT_EQ(out, 2);
    EXPECT_EQ(per_thread.at({"cuWork", 7000}), reinterpret_cast<void*>(&cuWork_ptsz));
    EXPECT_EQ(per_thread.at({"cuWorkNow", 7000}), reinterpret_cast<void*>(&cuWorkNow_ptds));
}

// Whatever arrives: a decoder fails or succeeds, and what it allocated is released.
TEST_F(Roundtrip, GarbageDoesNotDecodeIntoHarm) {
    std::mt19937 random(7);
    unsigned decoded = 0, refused = 0;
    for (uint32_t i = 0; i < server::dispatch_count; ++i) {
        const DispatchEntry& entry = server::dispatch_table[i];
        for (int round = 0; round < 300; ++round) {
            std::vector<char> bytes(random() % 200 / 4 * 4), args(entry.args_size);
            for (char& byte : bytes) byte = static_cast<char>(random() % 3 ? random() % 5 : random());
            XDR in;
            rpc::memory_xdr(&in, bytes.data(), static_cast<u_int>(bytes.size()), XDR_DECODE);
            const bool whole = entry.xdr_args(&in, args.data());
            ++(whole ? decoded : refused);
            if (whole && entry.serve) {
                std::vector<char> res(entry.res_size);
                server::Call call = make_call({});
                const bool by_count = std::string(entry.name).find("Array") != std::string::npos ||
                                      std::string(entry.name).find("Handles") != std::string::npos;
                if (by_count || std::string(entry.name) == "cuStruct")
                    entry.serve(call, args.data(), res.data());
                xdr_free(entry.xdr_res, res.data());
            }
            xdr_free(entry.xdr_args, args.data());
        }
    }
    EXPECT_GT(decoded, 1000u);  // else nothing was served
    EXPECT_GT(refused, 1000u);
}

TEST_F(Roundtrip, TextsWithoutEndAreNotDecoded) {
    rpc::Blob text{"abc", 3, true, false};
    std::vector<char> bytes = encode(xdr_routine(rpc::xdr_blob), &text);
    XDR in;
    rpc::memory_xdr(&in, bytes.data(), static_cast<u_int>(bytes.size()), XDR_DECODE);
    rpc::Blob decoded{};
    EXPECT_FALSE(rpc::xdr_text(&in, &decoded));
    xdr_free(xdr_routine(rpc::xdr_blob), &decoded);
}

TEST_F(Roundtrip, TraceShowsCallsAsTheyWere) {
    const auto last_line = [] {
        std::ifstream file(std::getenv("CRICKET_TRACE_FILE"));
        std::string line, last;
        while (std::getline(file, line)) last = line;
        return last.substr(0, last.rfind(" <"));
    };
    int sum = 0;
    errno = EXDEV;
    EXPECT_EQ(cuScalars(&sum, -3, 4, 5, 0.25f, CU_MINI_HIGH, 0xabc), CUDA_SUCCESS);
    EXPECT_EQ(errno, EXDEV);
    std::ostringstream expected;
    expected << "cuScalars(sum=0x" << std::hex << reinterpret_cast<uint64_t>(&sum)
             << ", a=-3, b=4, c=5, d=0.250000, mode=7, address=0xabc) = CUDA_SUCCESS [sum=8]";
    EXPECT_EQ(last_line(), expected.str());
    EXPECT_EQ(cuTextIn(nullptr, "say \"hi\"\n"), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(last_line(), "cuTextIn(length=0x0, text=\"say \\\"hi\\\"?\") = CUDA_ERROR_INVALID_VALUE");
    EXPECT_EQ(cuWork_ptsz(16, 255, nullptr), CUDA_SUCCESS);
    EXPECT_EQ(last_line(), "cuWork_ptsz(target=0x10, value=255, stream=0x0) = CUDA_SUCCESS");
    std::string endless(10000, 'x');
    EXPECT_EQ(cuTextIn(nullptr, endless.c_str()), CUDA_ERROR_INVALID_VALUE);
    EXPECT_NE(last_line().find(") = CUDA_ERROR_INVALID_VALUE"), std::string::npos);
}

int main(int argc, char** argv) {
    ::testing::InitGoogleTest(&argc, argv);
    char folder[] = "/tmp/cricket-codegen-XXXXXX";
    if (!mkdtemp(folder)) return 1;
    const std::string file = std::string(folder) + "/trace";
    setenv("CRICKET_TRACE", "1", 1);
    setenv("CRICKET_TRACE_FILE", file.c_str(), 1);
    const int result = RUN_ALL_TESTS();
    unlink(file.c_str());
    rmdir(folder);
    return result;
}
