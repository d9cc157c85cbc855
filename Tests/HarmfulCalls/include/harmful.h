// System calls that would harm others, for Tests/ConfinementProbe: each against what the calling process made
// itself, its own child, its own key, files in a folder of the test's own.
#ifndef HARMFUL_H
#define HARMFUL_H
#include <stddef.h>
#include <sys/types.h>

// How many there are, and their names.
size_t harmful_count(void);
const char *harmful_name(size_t index);
// Makes what they are tried on: a child that waits, a worker, a key in a session keyring of its
// own, sockets, descriptors. To be called before the process is confined. `folder` is where files are made. 0, or -1 and
// errno.
int harmful_prepare(const char *folder);
// The child that a monitor may signal.
pid_t harmful_worker(void);
// Makes the call. Negative, with errno, where it failed.
long harmful_run(size_t index);
#endif
