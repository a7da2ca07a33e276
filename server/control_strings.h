/* SPDX-License-Identifier: MIT */
/* Strings of the control program, in place of libtirpc's: what comes from the wire has no byte 0 in it. There it would be a part of
   the name or path; here what stands before it would be taken for the whole. Included before what rpcgen writes. */
#pragma once

#include <rpc/rpc.h>
#include <stdlib.h>
#include <string.h>

static bool_t control_string(XDR* xdrs, char** text, u_int longest) {
    u_int length = 0;
    if (xdrs->x_op != XDR_DECODE || *text) return xdr_string(xdrs, text, longest);
    if (!xdr_u_int(xdrs, &length) || length > longest) return FALSE;
    *text = (char*)calloc(1, (size_t)length + 1);
    return *text && xdr_opaque(xdrs, *text, length) && strlen(*text) == length;
}

#define xdr_string control_string
