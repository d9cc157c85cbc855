// Calls that Swift can't make by itself because they are variadic or have no wrapper in the C library.
// Nothing else belongs here: each function is one call.
#ifndef CSYSTEM_H
#define CSYSTEM_H
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// memfd_secret(2): a descriptor whose pages the kernel itself does not map. -1 and errno where there is none.
int csystem_memfd_secret(void);
// ioctl(BLKGETSIZE64), ioctl(BLKPBSZGET): a block device's size and its physical block, in bytes. 0 or -1 and errno.
int csystem_block_device_size(int fd, uint64_t *bytes);
int csystem_block_device_physical_block(int fd, uint32_t *bytes);
// ioctl(BLKROGET): whether a block device refuses writes, which not every driver says when it is opened for writing.
int csystem_block_device_read_only(int fd, int *read_only);
// fallocate(2), mode 0: space for bytes 0 to `length`, which the file then has at least. 0 or -1 and errno.
int csystem_allocate(int fd, int64_t length);
// fallocate(2), FALLOC_FL_UNSHARE_RANGE: the same, and blocks of its own where it shares them with a copy. EOPNOTSUPP
// where the file system can't. 0 or -1 and errno.
int csystem_allocate_unshared(int fd, int64_t length);
// Whether the file system has room for what the first bytes of a file lack: 1 or 0, -1 where it can't be told.
int csystem_has_room(int fd, int64_t length);
// Whether the first bytes have blocks that are theirs alone: 1 or 0, -1 where it can't be told. Syncs the file.
int csystem_is_allocated(int fd, int64_t length);
// fstatfs(2): the type of the file system that a file lies on (linux/magic.h), and its block in bytes. 0 or -1 and
// errno.
int csystem_file_system(int fd, uint32_t *type, uint64_t *block);
// major(3), minor(3).
unsigned csystem_major(uint64_t device);
unsigned csystem_minor(uint64_t device);
// renameat2(2) with RENAME_NOREPLACE, or link(2) and unlink(2) where the file system hasn't that: EEXIST where the new name is
// taken. 0 or -1 and errno.
int csystem_rename_new(const char *from, const char *to);
// open(2) with O_TMPFILE: a file without a name in `directory`, mode 0600, for reading and writing. EOPNOTSUPP where the file
// system has none. A descriptor, or -1 and errno.
int csystem_open_unnamed(const char *directory);
// linkat(2): gives such a file a name. EEXIST where it is taken. 0 or -1 and errno.
int csystem_link_descriptor(const char *proc_path, const char *name);
// fcntl(F_OFD_SETLK) over the whole file, without waiting. 0 or -1 and errno (EAGAIN: another process has it).
int csystem_lock_exclusive(int fd);
int csystem_lock_shared(int fd);
int csystem_unlock(int fd);
// prctl(PR_SET_DUMPABLE, 0) and RLIMIT_CORE 0: no core dump, no ptrace by the same user.
int csystem_forbid_dumps(void);
// fork(2), which Swift doesn't offer. To be called before there are threads, and memory for keys: they don't outlive it.
pid_t csystem_fork(void);
// Writes `title` over this process's arguments, `count` of them, and over its environment, for who looks at the list of processes; cut
// to their length. There is no environment any more.
void csystem_set_title(int count, const char *title);
// signalfd(2), close-on-exec and non-blocking: reads as those of the signals that the caller has blocked.
int csystem_signal_descriptor(const sigset_t *signals);
// epoll_create1(2), close-on-exec; epoll_ctl(2), which adds, changes or removes a descriptor, as the events before and after (0:
// none) have it, and gives it a place from 0 to 31; epoll_wait(2): a bit for each place of which something is to be told. -1 and
// errno.
int csystem_event_set(void);
int csystem_watch(int set, int fd, uint32_t before, uint32_t after, uint32_t place);
int csystem_wait(int set, int timeout, uint32_t *places);
// eventfd(2), close-on-exec and non-blocking. -1 and errno.
int csystem_event_descriptor(void);
// timerfd_create(2) and timerfd_settime(2), close-on-exec and non-blocking: readable after `first` seconds and then every
// `interval` seconds. -1 and errno.
int csystem_timer(int first, int interval);
// sem_clockwait(3) until `deadline`, in nanoseconds of CLOCK_MONOTONIC: glibc's own declaration wants _GNU_SOURCE. 0 or -1
// and errno.
int csystem_semaphore_wait(sem_t *semaphore, uint64_t deadline);
// mremap(2) onto other addresses, in place of what is mapped there. 0 or -1 and errno.
int csystem_move_mapping(void *from, size_t size, void *to);
// getrandom(2) without flags: waits until the kernel has seeded itself. The number of bytes, or -1 and errno.
ssize_t csystem_random(void *bytes, size_t count);
// Adds to a counter that each thread has for itself, zero at first, and returns it: Swift has no thread-local variables.
int csystem_thread_depth(int change);
// Overwrites the stack below the caller, 16 KiB of it, and the registers that a call may use: what calls that are over
// have left there.
void csystem_wipe_stack(void);
// prctl(PR_SET_NO_NEW_PRIVS): no program that is started has more rights than this one. 0 or -1 and errno.
int csystem_no_new_privileges(void);
// landlock(7). The version of the kernel's interface, or -1 and errno; a descriptor of a set of rules that handles these
// rights, with zeros for kinds that the version doesn't know; a rule for what lies under a descriptor; enforcing it on the
// calling thread and those it makes. 0 or -1 and errno.
int csystem_landlock_version(void);
int csystem_landlock_create(uint64_t files, uint64_t network, uint64_t scope);
int csystem_landlock_allow(int rules, int descriptor, uint64_t files);
int csystem_landlock_enforce(int rules);
// prctl(2) and capset(2): gives up all capabilities but these bits (linux/capability.h), of all five sets; of the bounding
// one as far as that is permitted. For the calling thread. 0 or -1 and errno.
int csystem_keep_capabilities(uint64_t kept);
// prctl(PR_SET_PDEATHSIG): SIGKILL for this process when the thread that made it ends. -1 and ESRCH where `parent` isn't its
// parent any more. Forgotten by the kernel when the process becomes another user. 0 or -1 and errno.
int csystem_end_with_parent(pid_t parent);
// close_range(2): closes all descriptors from the first to the last. 0 or -1 and errno.
int csystem_close_range(unsigned first, unsigned last);
// fstat(2) by its own number, into a `struct stat`: that of the C library is newfstatat(2), with which names can be looked
// up, too. 0 or -1 and errno.
int csystem_fstat(int fd, void *status);
// statx(2): when the file was made, in seconds and nanoseconds since 1970. 0; -1 where the file system doesn't say.
int csystem_birth_time(const char *path, int64_t *seconds, uint32_t *nanoseconds);
// pipe2(2), close-on-exec. 0 or -1 and errno.
int csystem_pipe(int ends[2]);
// posix_spawn_file_actions_addclosefrom_np(3): the program gets none of the descriptors from this one on. 0 or an errno.
int csystem_spawn_close_from(posix_spawn_file_actions_t *actions, int first);
// recvmsg(2) without waiting, with at most one descriptor by SCM_RIGHTS in *descriptor (close-on-exec; -1 where none came; a
// message with more than one keeps none). What recv(2) returns.
ssize_t csystem_receive(int fd, void *bytes, size_t count, int *descriptor);
// socketpair(2) of AF_UNIX, SOCK_SEQPACKET, close-on-exec: whole messages, in order. 0 or -1 and errno.
int csystem_message_pair(int ends[2]);
// sendmsg(2) without waiting and without SIGPIPE, with a descriptor by SCM_RIGHTS unless that is -1. What send(2) returns.
ssize_t csystem_send(int fd, const void *bytes, size_t count, int descriptor);
// epoll_create1(2): a descriptor that is readable while one of these two is. -1 and errno.
int csystem_either(int first, int second);
// madvise(2) with MADV_DONTNEED on what the program and its libraries have mapped of their files and can't write to: code,
// constants, symbols. What is needed again comes back from the page cache.
void csystem_drop_file_pages(void);
#endif
