#define _GNU_SOURCE
#include "csystem.h"
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/random.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/timerfd.h>
#include <unistd.h>

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

int csystem_memfd_secret(void) { return (int)syscall(SYS_memfd_secret, (unsigned)O_CLOEXEC); }

int csystem_block_device_size(int fd, uint64_t *bytes) { return ioctl(fd, BLKGETSIZE64, bytes); }

int csystem_block_device_physical_block(int fd, uint32_t *bytes) {
  unsigned int size = 0;
  int result = ioctl(fd, BLKPBSZGET, &size);
  *bytes = size;
  return result;
}

int csystem_block_device_read_only(int fd, int *read_only) { return ioctl(fd, BLKROGET, read_only); }

int csystem_allocate(int fd, int64_t length) { return fallocate(fd, 0, 0, length); }

int csystem_has_room(int fd, int64_t length) {
  struct stat file;
  struct statfs about;
  if (fstat(fd, &file) != 0 || fstatfs(fd, &about) != 0) return -1;
  int64_t missing = length - (int64_t)file.st_blocks * 512;
  if (missing <= 0) return 1;
  uint64_t block = (uint64_t)(about.f_bsize > 0 ? about.f_bsize : 4096);
  return (uint64_t)missing / block <= about.f_bavail;
}

int csystem_is_allocated(int fd, int64_t length) {
  enum { count = 32 };
  union {
    struct fiemap map;
    char bytes[sizeof(struct fiemap) + count * sizeof(struct fiemap_extent)];
  } room;
  uint64_t done = 0, end = (uint64_t)length;
  while (done < end) {
    memset(&room, 0, sizeof room);
    room.map.fm_start = done;
    room.map.fm_length = end - done;
    room.map.fm_flags = FIEMAP_FLAG_SYNC;
    room.map.fm_extent_count = count;
    if (ioctl(fd, FS_IOC_FIEMAP, &room.map) != 0) return -1;
    if (room.map.fm_mapped_extents == 0) return 0;
    for (uint32_t i = 0; i < room.map.fm_mapped_extents; i++) {
      const struct fiemap_extent *extent = &room.map.fm_extents[i];
      uint32_t other = FIEMAP_EXTENT_SHARED | FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC;
      if (extent->fe_logical > done || (extent->fe_flags & other) != 0) return 0;
      done = extent->fe_logical + extent->fe_length;
    }
  }
  return 1;
}

int csystem_allocate_unshared(int fd, int64_t length) { return fallocate(fd, FALLOC_FL_UNSHARE_RANGE, 0, length); }

int csystem_file_system(int fd, uint32_t *type, uint64_t *block) {
  struct statfs about;
  if (fstatfs(fd, &about) != 0) return -1;
  *type = (uint32_t)about.f_type;
  // f_bsize is a size for transfers where the two differ.
  *block = (uint64_t)(about.f_frsize > 0 ? about.f_frsize : about.f_bsize);
  return 0;
}

unsigned csystem_major(uint64_t device) { return major(device); }

unsigned csystem_minor(uint64_t device) { return minor(device); }

int csystem_rename_new(const char *from, const char *to) {
  if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return 0;
  // EINVAL: a file system that can't, such as NFS. A link doesn't replace either.
  if (errno != EINVAL || link(from, to) != 0) return -1;
  if (unlink(from) == 0) return 0;
  int error = errno;
  unlink(to);
  errno = error;
  return -1;
}

int csystem_open_unnamed(const char *directory) { return open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600); }

int csystem_link_descriptor(const char *proc_path, const char *name) {
  return linkat(AT_FDCWD, proc_path, AT_FDCWD, name, AT_SYMLINK_FOLLOW);
}

static int lock(int fd, short type) {
  struct flock whole = {.l_type = type, .l_whence = SEEK_SET};
  return fcntl(fd, F_OFD_SETLK, &whole);
}

int csystem_lock_exclusive(int fd) { return lock(fd, F_WRLCK); }

int csystem_lock_shared(int fd) { return lock(fd, F_RDLCK); }

int csystem_unlock(int fd) { return lock(fd, F_UNLCK); }

int csystem_forbid_dumps(void) {
  struct rlimit none = {0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0) return -1;
  return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

pid_t csystem_fork(void) { return fork(); }

void csystem_set_title(int count, const char *title) {
  // argv[0], as the C library has it; the others lie behind it.
  char *start = program_invocation_name, *end = start;
  for (int i = 0; i < count; i++) end += strlen(end) + 1;
  // Behind them the kernel has put the environment, and then the program's path.
  char *path = (char *)getauxval(AT_EXECFN);
  if (path > end) end = path;
  clearenv();
  memset(start, 0, end - start);
  if (end > start) strncpy(start, title, end - start - 1);
}

int csystem_signal_descriptor(const sigset_t *signals) { return signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK); }

int csystem_event_set(void) { return epoll_create1(EPOLL_CLOEXEC); }

int csystem_watch(int set, int fd, uint32_t before, uint32_t after, uint32_t place) {
  struct epoll_event event = {.events = after, .data.u32 = place};
  return epoll_ctl(set, after == 0 ? EPOLL_CTL_DEL : before == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event);
}

int csystem_wait(int set, int timeout, uint32_t *places) {
  struct epoll_event events[32];
  int count = epoll_wait(set, events, 32, timeout);
  *places = 0;
  for (int i = 0; i < count; i++) *places |= (uint32_t)1 << (events[i].data.u32 & 31);
  return count < 0 ? -1 : 0;
}

int csystem_timer(int first, int interval) {
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  struct itimerspec times = {.it_interval = {.tv_sec = interval}, .it_value = {.tv_sec = first}};
  if (timer >= 0 && timerfd_settime(timer, 0, &times, NULL) != 0) {
    close(timer);
    return -1;
  }
  return timer;
}

int csystem_event_descriptor(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

int csystem_semaphore_wait(sem_t *semaphore, uint64_t deadline) {
  struct timespec time = {.tv_sec = (time_t)(deadline / 1000000000), .tv_nsec = (long)(deadline % 1000000000)};
  return sem_clockwait(semaphore, CLOCK_MONOTONIC, &time);
}

int csystem_move_mapping(void *from, size_t size, void *to) {
  return mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to ? 0 : -1;
}

ssize_t csystem_random(void *bytes, size_t count) { return getrandom(bytes, count, 0); }

static _Thread_local int depth;

int csystem_thread_depth(int change) { return depth += change; }

__attribute__((noinline, zero_call_used_regs("all"))) void csystem_wipe_stack(void) {
  char stack[16384];
  explicit_bzero(stack, sizeof stack);
}

int csystem_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }

// linux/landlock.h as of version 6; Debian 12's is older. The numbers are the same on all architectures.
enum { LANDLOCK_CREATE = 444, LANDLOCK_ADD = 445, LANDLOCK_RESTRICT = 446, LANDLOCK_PATH_BENEATH = 1 };

struct rules {
  uint64_t files, network, scope;
};

struct __attribute__((packed)) path_beneath {
  uint64_t files;
  int32_t descriptor;
};

int csystem_landlock_version(void) { return (int)syscall(LANDLOCK_CREATE, NULL, (size_t)0, 1U); }

int csystem_landlock_create(uint64_t files, uint64_t network, uint64_t scope) {
  struct rules rules = {files, network, scope};
  // Older kernels know the first members only, and refuse more.
  size_t size = scope ? 24 : network ? 16 : 8;
  return (int)syscall(LANDLOCK_CREATE, &rules, size, 0U);
}

int csystem_landlock_allow(int rules, int descriptor, uint64_t files) {
  struct path_beneath rule = {files, descriptor};
  return (int)syscall(LANDLOCK_ADD, rules, LANDLOCK_PATH_BENEATH, &rule, 0U);
}

int csystem_landlock_enforce(int rules) { return (int)syscall(LANDLOCK_RESTRICT, rules, 0U); }

int csystem_keep_capabilities(uint64_t kept) {
  // While it may: a capability of its own. Where this is refused nothing is lost, since nothing is ever executed.
  for (int i = 0; i < 64 && prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++) {
    if (!(kept >> i & 1)) prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
  }
  // Linux has these since 4.3.
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL) return -1;
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct sets[2];
  if (syscall(SYS_capget, &header, sets) != 0) return -1;
  for (int i = 0; i < 2; i++) {
    sets[i].permitted &= (uint32_t)(kept >> 32 * i);
    sets[i].effective = sets[i].permitted;
    sets[i].inheritable = 0;
  }
  return (int)syscall(SYS_capset, &header, sets);
}

int csystem_end_with_parent(pid_t parent) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return -1;
  // It may have ended before.
  if (getppid() == parent) return 0;
  errno = ESRCH;
  return -1;
}

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

int csystem_close_range(unsigned first, unsigned last) { return (int)syscall(SYS_close_range, first, last, 0U); }

int csystem_birth_time(const char *path, int64_t *seconds, uint32_t *nanoseconds) {
  struct statx status;
  if (statx(AT_FDCWD, path, 0, STATX_BTIME, &status) != 0 || !(status.stx_mask & STATX_BTIME)) return -1;
  *seconds = status.stx_btime.tv_sec;
  *nanoseconds = status.stx_btime.tv_nsec;
  return 0;
}

int csystem_fstat(int fd, void *status) { return (int)syscall(SYS_fstat, fd, status); }

int csystem_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

int csystem_spawn_close_from(posix_spawn_file_actions_t *actions, int first) {
  return posix_spawn_file_actions_addclosefrom_np(actions, first);
}

ssize_t csystem_receive(int fd, void *bytes, size_t count, int *descriptor) {
  // Room for two, so that what is more than one is seen; the kernel closes what has no room.
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(2 * sizeof(int))];
  } control;
  struct iovec place = {bytes, count};
  struct msghdr message = {
      .msg_iov = &place, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  *descriptor = -1;
  ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) return n;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    int received[2];
    size_t size = c->cmsg_len - CMSG_LEN(0);
    if (size > sizeof received) size = sizeof received;
    memcpy(received, CMSG_DATA(c), size);
    if (size == sizeof(int)) {
      *descriptor = received[0];
    } else {
      for (size_t i = 0; i < size / sizeof(int); i++) close(received[i]);
    }
  }
  return n;
}

int csystem_message_pair(int ends[2]) { return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends); }

ssize_t csystem_send(int fd, const void *bytes, size_t count, int descriptor) {
  if (descriptor < 0) return send(fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct iovec place = {(void *)bytes, count};
  struct msghdr message = {
      .msg_iov = &place, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(rights), &descriptor, sizeof(int));
  return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int csystem_either(int first, int second) {
  int set = epoll_create1(EPOLL_CLOEXEC);
  if (set < 0) return -1;
  struct epoll_event event = {.events = EPOLLIN};
  if (epoll_ctl(set, EPOLL_CTL_ADD, first, &event) != 0 || epoll_ctl(set, EPOLL_CTL_ADD, second, &event) != 0) {
    close(set);
    return -1;
  }
  return set;
}

static int has_text_relocations(const struct dl_phdr_info *object) {
  for (int i = 0; i < object->dlpi_phnum; i++) {
    if (object->dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
    const ElfW(Dyn) *entry = (const ElfW(Dyn) *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
    for (; entry->d_tag != DT_NULL; entry++) {
      if (entry->d_tag == DT_TEXTREL || (entry->d_tag == DT_FLAGS && entry->d_un.d_val & DF_TEXTREL)) return 1;
    }
  }
  return 0;
}

static int drop_pages(struct dl_phdr_info *object, size_t size, void *unused) {
  (void)size, (void)unused;
  // The linker wrote into pages that nobody else may write to: those have no second copy.
  if (has_text_relocations(object)) return 0;
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  for (int i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
    if (segment->p_type != PT_LOAD || segment->p_flags & PF_W) continue;
    // Not the last page in part: the next segment may be on it, which may be written to.
    uintptr_t start = (object->dlpi_addr + segment->p_vaddr) & ~(page - 1);
    uintptr_t end = (object->dlpi_addr + segment->p_vaddr + segment->p_filesz) & ~(page - 1);
    // Where it can't be done, as on the kernel's own pages, or locked ones, nothing is lost.
    if (end > start) madvise((void *)start, end - start, MADV_DONTNEED);
  }
  return 0;
}

void csystem_drop_file_pages(void) { dl_iterate_phdr(drop_pages, NULL); }
