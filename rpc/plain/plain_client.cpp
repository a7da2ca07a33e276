// SPDX-License-Identifier: MIT
#include "plain_client.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace cricket::rpc {
namespace {

// Both give a descriptor, or -1 and say why.
int connect_unix(const char* path, sockaddr_storage* peer, socklen_t* bytes, const char** why) {
    auto* address = reinterpret_cast<sockaddr_un*>(peer);
    address->sun_family = AF_UNIX;
    *why = "the path is too long for a socket";
    if (std::strlen(path) >= sizeof address->sun_path) return -1;
    std::strcpy(address->sun_path, path);
    *bytes = sizeof *address;
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && ::connect(fd, reinterpret_cast<sockaddr*>(peer), *bytes) == 0) return fd;
    *why = std::strerror(errno);
    if (fd >= 0) ::close(fd);
    return -1;
}

int connect_tcp(const char* host_port, sockaddr_storage* peer, socklen_t* bytes, const char** why) {
    char host[256];
    const char* colon = std::strrchr(host_port, ':');
    *why = "there is no HOST:PORT";
    if (!colon || static_cast<size_t>(colon - host_port) >= sizeof host) return -1;
    std::memcpy(host, host_port, static_cast<size_t>(colon - host_port));
    host[colon - host_port] = 0;
    char* end = nullptr;
    const unsigned long port = std::strtoul(colon + 1, &end, 10);
    *why = "the port is no number from 0 to 65535";  // getaddrinfo would take what is left of it in 16 bits
    if (end == colon + 1 || *end || port > 65535) return -1;
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int error = ::getaddrinfo(host, colon + 1, &hints, &found); error != 0) {
        *why = ::gai_strerror(error);
        return -1;
    }
    int fd = -1;
    for (addrinfo* one = found; one && fd < 0; one = one->ai_next) {
        fd = ::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && ::connect(fd, one->ai_addr, one->ai_addrlen) == 0) {
            const int yes = 1;
            ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            std::memcpy(peer, one->ai_addr, one->ai_addrlen);
            *bytes = one->ai_addrlen;
            break;
        }
        *why = std::strerror(errno);
        if (fd >= 0) ::close(fd);
        fd = -1;
    }
    ::freeaddrinfo(found);
    return fd;
}

// Arguments and results of proc_attach.
bool_t xdr_hello(XDR* xdrs, wire::Hello* hello) {
    return ::xdr_opaque(xdrs, reinterpret_cast<char*>(hello), sizeof *hello);
}
struct Answer {
    int32_t refusal;
    char text[256];
};
bool_t xdr_answer(XDR* xdrs, Answer* answer) {
    return xdr_i32(xdrs, &answer->refusal) && ::xdr_opaque(xdrs, answer->text, sizeof answer->text);
}

}  // namespace

int PlainClient::marshal(AUTH* auth, XDR* xdrs) {
    auto* self = static_cast<PlainClient*>(auth->ah_private);
    char bytes[wire::credential_bytes];
    XDR inner;
    xdrmem_create(&inner, bytes, sizeof bytes, XDR_ENCODE);
    if (!xdr_credential(&inner, &self->credential_)) return FALSE;
    opaque_auth credential{static_cast<enum_t>(wire::credential_flavor), bytes, sizeof bytes};
    opaque_auth none{AUTH_NONE, nullptr, 0};
    return xdr_opaque_auth(xdrs, &credential) && xdr_opaque_auth(xdrs, &none);
}

int PlainClient::validate(AUTH* auth, opaque_auth* verifier) {
    auto* self = static_cast<PlainClient*>(auth->ah_private);
    self->posted_ = {};
    if (static_cast<uint32_t>(verifier->oa_flavor) != wire::credential_flavor || verifier->oa_length != 12) return TRUE;
    XDR inner;
    xdrmem_create(&inner, verifier->oa_base, 12, XDR_DECODE);
    return xdr_i32(&inner, &self->posted_.result) && xdr_u64(&inner, &self->posted_.seq);
}

bool PlainClient::open(const char* address, const wire::Hello& hello, char* why, size_t why_bytes) {
    sockaddr_storage peer{};
    socklen_t peer_bytes = 0;
    int fd = -1;
    const char* reason = "an address of neither unix nor tcp";
    if (std::strncmp(address, "unix:", 5) == 0) fd = connect_unix(address + 5, &peer, &peer_bytes, &reason);
    if (std::strncmp(address, "tcp:", 4) == 0) fd = connect_tcp(address + 4, &peer, &peer_bytes, &reason);
    if (fd < 0) {
        std::snprintf(why, why_bytes, "%s", reason);
        return false;
    }
    netbuf where{};
    where.maxlen = sizeof peer;
    where.len = peer_bytes;
    where.buf = &peer;
    client_ = ::clnt_vc_create(fd, &where, wire::cuda_program, wire::cuda_program_version, 0, 0);
    if (!client_) {
        ::close(fd);
        std::snprintf(why, why_bytes, "no RPC client for %s", address);
        return false;
    }
    clnt_control(client_, CLSET_FD_CLOSE, nullptr);
    static AUTH::auth_ops ops{next_verifier, marshal, validate, refresh, destroy, wrap, wrap};
    auth_.ah_ops = &ops;
    auth_.ah_private = this;
    auth_.ah_cred.oa_flavor = static_cast<enum_t>(wire::credential_flavor);
    client_->cl_auth = &auth_;
    wire::Hello copy = hello;
    Answer answer{};
    const timeval timeout{60, 0};
    const clnt_stat status = clnt_call(client_, wire::proc_attach, reinterpret_cast<xdrproc_t>(xdr_hello),
                                       reinterpret_cast<caddr_t>(&copy), reinterpret_cast<xdrproc_t>(xdr_answer),
                                       reinterpret_cast<caddr_t>(&answer), timeout);
    if (status != RPC_SUCCESS) {
        std::snprintf(why, why_bytes, "%s: RPC status %d", address, static_cast<int>(status));
        return false;
    }
    if (answer.refusal != 0) {
        answer.text[sizeof answer.text - 1] = 0;
        std::snprintf(why, why_bytes, "%s", answer.text);
        return false;
    }
    return true;
}

clnt_stat PlainClient::call(uint32_t procedure, Credential credential, xdrproc_t xdr_args, void* args,
                            xdrproc_t xdr_res, void* res, PostedError* posted) {
    std::lock_guard lock(mutex_);
    credential_ = credential;
    credential_.seq = next_seq_;
    posted_ = {};
    const timeval timeout{7 * 24 * 3600, 0};  // a kernel may run for days; a dead peer closes the connection
    const clnt_stat status = clnt_call(client_, procedure, xdr_args, static_cast<caddr_t>(args), xdr_res,
                                       static_cast<caddr_t>(res), timeout);
    if (status == RPC_SUCCESS) ++next_seq_;
    *posted = posted_;
    return status;
}

}  // namespace cricket::rpc
