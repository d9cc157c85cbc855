#define _GNU_SOURCE
#include "harmful.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

// What calls are tried on.
static char other[4096], fresh[4096], folder[4096];
static pid_t victim, worker;
static int key, file, directory, pid_descriptor = -1, pair[2], ends[2], shut_listener, listener, tcp, udp, unix_socket;
static struct sockaddr_in address;
static char *code_page, bytes[4096];
static int victim_value;

// It ends with its parent, which holds the pipe's other end. PR_SET_PDEATHSIG wouldn't do: a parent that landlock keeps from
// signalling doesn't send that either.
static pid_t child_that_waits(void) {
  int alive[2];
  if (pipe2(alive, O_CLOEXEC) != 0) return -1;
  pid_t child = fork();
  if (child != 0) {
    close(alive[0]);
    return child;
  }
  close(alive[1]);
  char byte;
  while (read(alive[0], &byte, 1) != 0) continue;
  _exit(0);
}

static int listening(void) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any) != 0 || listen(fd, 4) != 0) return -1;
  return fd;
}

int harmful_prepare(const char *place) {
  int tries = 0;
  snprintf(folder, sizeof folder, "%s", place);
  snprintf(other, sizeof other, "%s/other", place);
  snprintf(fresh, sizeof fresh, "%s/fresh-%d", place, (int)getpid());
  if ((victim = child_that_waits()) < 0 || (worker = child_that_waits()) < 0) return -1;
  // Of its own, so that no key is left behind. The kernel is behind with those of the calls before: a user has 200.
  do {
    key = (int)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
    if (key >= 0) key = (int)syscall(SYS_add_key, "user", "vnvram:probe", "secret", 6UL, KEY_SPEC_SESSION_KEYRING);
  } while (key < 0 && errno == EDQUOT && tries++ < 1000 && usleep(20000) == 0);
  // An earlier call may have removed it.
  file = open(other, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file >= 0) fchmod(file, 0666);
  directory = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
#ifdef SYS_pidfd_open
  pid_descriptor = (int)syscall(SYS_pidfd_open, victim, 0);
#endif
  shut_listener = listening();
  listener = listening();
  tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  unix_socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (key < 0 || file < 0 || directory < 0 || shut_listener < 0) return -1;
  if (listener < 0 || tcp < 0 || udp < 0 || unix_socket < 0) return -1;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0 || pipe2(ends, O_CLOEXEC) != 0) return -1;
  socklen_t size = sizeof address;
  if (getsockname(listener, (struct sockaddr *)&address, &size) != 0) return -1;
  shutdown(shut_listener, SHUT_RDWR);
  code_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return code_page == MAP_FAILED ? -1 : 0;
}

pid_t harmful_worker(void) { return worker; }

static long keyctl_call(int operation, unsigned long a, unsigned long b, unsigned long c) {
  return syscall(SYS_keyctl, operation, a, b, c, 0UL);
}

static long limit(pid_t pid, int set) {
  struct rlimit value = {4096, 4096}, old;
  return syscall(SYS_prlimit64, pid, RLIMIT_NOFILE, set ? &value : NULL, &old);
}

static long send_rights(int flags) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct iovec place = {"x", 1};
  struct msghdr message = {
      .msg_iov = &place, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  struct cmsghdr *c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(c), &file, sizeof file);
  return syscall(SYS_sendmsg, pair[0], &message, flags);
}

static long send_fast_open_message(void) {
  struct iovec place = {"x", 1};
  struct msghdr message = {.msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &place, .msg_iovlen = 1};
  return syscall(SYS_sendmsg, shut_listener, &message, MSG_FASTOPEN | MSG_DONTWAIT);
}

static long send_many(void) {
  struct iovec place = {"x", 1};
  struct mmsghdr message = {.msg_hdr = {.msg_iov = &place, .msg_iovlen = 1}};
  return syscall(SYS_sendmmsg, pair[0], &message, 1, 0);
}

static long receive_many(void) {
  struct iovec place = {bytes, 1};
  struct mmsghdr message = {.msg_hdr = {.msg_iov = &place, .msg_iovlen = 1}};
  (void)!write(pair[1], "x", 1);
  return syscall(SYS_recvmmsg, pair[0], &message, 1, MSG_DONTWAIT, NULL);
}

static long option(int fd, int level, int name) {
  // Room for what any of them takes; a filter of one instruction that lets everything through.
  struct {
    uint16_t code;
    uint8_t jt, jf;
    uint32_t k;
  } instruction = {6, 0, 0, 0xFFFF};
  struct {
    uint16_t count;
    void *list;
  } program = {1, &instruction};
  return syscall(SYS_setsockopt, fd, level, name, &program, sizeof program);
}

static long option_asked(void) {
  int value;
  socklen_t size = sizeof value;
  return syscall(SYS_getsockopt, tcp, SOL_SOCKET, SO_TYPE, &value, &size);
}

static long name_of_socket(long call) {
  struct sockaddr_storage place;
  socklen_t size = sizeof place;
  return syscall(call, listener, &place, &size);
}

static long connect_unix(void) {
  struct sockaddr_un place = {.sun_family = AF_UNIX};
  snprintf(place.sun_path, sizeof place.sun_path, "/nothing");
  return syscall(SYS_connect, unix_socket, &place, sizeof place);
}

static long bind_tcp(void) {
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  return syscall(SYS_bind, tcp, &any, sizeof any);
}

static long memory_of_victim(long call) {
  struct iovec own = {bytes, sizeof(int)}, its = {&victim_value, sizeof(int)};
  return syscall(call, victim, &own, 1UL, &its, 1UL, 0UL);
}

static long queue_signal(void) {
  siginfo_t info = {.si_signo = SIGTERM, .si_code = SI_QUEUE, .si_pid = getpid(), .si_uid = getuid()};
  return syscall(SYS_rt_sigqueueinfo, victim, SIGTERM, &info);
}

static long queue_signal_to_thread(void) {
  siginfo_t info = {.si_signo = SIGTERM, .si_code = SI_QUEUE, .si_pid = getpid(), .si_uid = getuid()};
  return syscall(SYS_rt_tgsigqueueinfo, victim, victim, SIGTERM, &info);
}

static long own_owner(void) {
  struct {
    int type;
    pid_t pid;
  } owner = {1 /* F_OWNER_PID */, victim};
  return syscall(SYS_fcntl, pair[0], 15 /* F_SETOWN_EX */, &owner);
}

static long posix_lock(void) {
  struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
  return syscall(SYS_fcntl, file, F_SETLK, &lock);
}

// What a child of a clone without CLONE_VM does; it must not go on as this process.
static long made_process(long result) {
  if (result == 0) _exit(0);
  return result;
}

static long execute(void) {
  char *arguments[] = {"/bin/true", NULL};
  return syscall(SYS_execve, "/bin/true", arguments, NULL);
}

static long execute_at(void) {
  char *arguments[] = {"/bin/true", NULL};
  return syscall(SYS_execveat, AT_FDCWD, "/bin/true", arguments, NULL, 0);
}

static long open_two(void) {
  uint64_t how[3] = {O_RDONLY, 0, 0};
  return syscall(SYS_openat2, AT_FDCWD, other, how, sizeof how);
}

static long set_capabilities(void) {
  uint32_t header[2] = {0x20080522, 0}, sets[6];
  return syscall(SYS_capset, header, memset(sets, 0, sizeof sets));
}

static long list_folder(void) { return syscall(SYS_getdents64, directory, bytes, sizeof bytes); }

static long timer(void) {
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGTERM};
  int identifier;
  return syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &identifier);
}

static long affinity(long call) {
  uint64_t set[128];
  memset(set, 0xFF, sizeof set);
  return syscall(call, victim, sizeof set, set);
}

static long scheduler(void) {
  struct sched_param parameter = {0};
  return syscall(SYS_sched_setscheduler, victim, SCHED_BATCH, &parameter);
}

static long kill_own_group(void) {
  signal(SIGURG, SIG_IGN);
  return syscall(SYS_kill, 0, SIGURG);
}

#define CALL(name, expression) \
  static long run_##name(void) { return (expression); }
#include "calls.h"
#undef CALL

#define STRING(text) #text
#define CALL(name, expression) {STRING(name), run_##name},
static const struct {
  const char *name;
  long (*run)(void);
} calls[] = {
#include "calls.h"
};

size_t harmful_count(void) { return sizeof calls / sizeof *calls; }

const char *harmful_name(size_t index) { return calls[index].name; }

long harmful_run(size_t index) { return calls[index].run(); }
