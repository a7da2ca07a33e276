// SPDX-License-Identifier: MIT
// Who descends from whom, while threads and other children come and go.
#include "process_files.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

namespace cricket::server {
namespace {

using testing::IsSupersetOf;

[[noreturn]] void sleep_for_ever() {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) ::pause();
}

// A process with children that stay, of which the first has one, too. While it is `busy`, threads and other children of it begin
// and end.
class Family {
  public:
    static constexpr size_t staying = 4;

    explicit Family(bool busy) {
        int ends[2];
        EXPECT_EQ(::pipe(ends), 0);
        parent = ::fork();
        if (parent == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (size_t i = 0; i < staying - 1; ++i)
                if (::fork() == 0) {
                    if (i == 0) ::fork();
                    tell(ends[1]);
                    sleep_for_ever();
                }
            while (busy) {
                std::thread threads[3];
                for (std::thread& one : threads)
                    one = std::thread([] {
                        const pid_t child = ::fork();
                        if (child == 0) ::_exit(0);
                        ::waitpid(child, nullptr, 0);
                    });
                for (std::thread& one : threads) one.join();
            }
            sleep_for_ever();
        }
        ::close(ends[1]);
        for (pid_t one; all.size() < staying && ::read(ends[0], &one, sizeof one) == sizeof one;) all.push_back(one);
        ::close(ends[0]);
    }
    ~Family() {
        ::kill(parent, SIGKILL);
        ::waitpid(parent, nullptr, 0);
    }

    pid_t parent = 0;
    std::vector<pid_t> all;

  private:
    static void tell(int pipe) {
        const pid_t self = ::getpid();
        [[maybe_unused]] const ssize_t ignored = ::write(pipe, &self, sizeof self);
    }
};

TEST(ProcessTree, HasAllWhileOthersComeAndGo) {
    const Family family(true);
    ASSERT_EQ(family.all.size(), Family::staying);
    for (int i = 0; i < 300; ++i) {
        const std::vector<pid_t> tree = process_tree(family.parent);
        ASSERT_EQ(tree.front(), family.parent);
        ASSERT_THAT(tree, IsSupersetOf(family.all)) << "attempt " << i;
        for (const pid_t one : family.all) ASSERT_TRUE(descends_from(one, family.parent)) << "attempt " << i;
    }
}

TEST(ProcessTree, OfWhatStandsStillIsTheSameEitherWay) {
    const Family family(false);
    std::vector<pid_t> expected = family.all;
    expected.push_back(family.parent);
    EXPECT_THAT(process_tree(family.parent), testing::UnorderedElementsAreArray(expected));
    EXPECT_THAT(standing_tree(family.parent), testing::UnorderedElementsAreArray(expected));
}

TEST(ProcessTree, EndsWhereItDoes) {
    const Family one(false), other(false);
    EXPECT_TRUE(descends_from(one.parent, one.parent));
    EXPECT_TRUE(descends_from(one.all[0], ::getpid()));
    EXPECT_FALSE(descends_from(one.all[0], other.parent));
    EXPECT_FALSE(descends_from(::getpid(), one.parent));
    EXPECT_FALSE(descends_from(0, one.parent));
    EXPECT_FALSE(descends_from(1 << 30, one.parent));
}

}  // namespace
}  // namespace cricket::server
