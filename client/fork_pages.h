// SPDX-License-Identifier: MIT
// fork, where pages of the application lie in the memfd that the worker maps (registered memory, memory of graphs' copies):
// natively those are private pages, of which parent and child have their own after a fork.
//
// The pages at the ends of a range, which hold other things too, and small ranges, which may be a stack: private while the
// process forks, then merged with what the device wrote meanwhile. The inside of large ranges: the child's own from its
// first write on.
#pragma once

namespace cricket::client::fork_pages {

// Such pages exist from now on; before that a fork costs nothing.
void note();

// For pthread_atfork; child() before the memfd is closed.
void prepare();
void parent();
void child();

}  // namespace cricket::client::fork_pages
