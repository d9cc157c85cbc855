// One NV counter of a TPM 2.0, through tpm2-tss (ESAPI and the TCTI loader). The libraries are loaded when a counter is
// opened, so that programs which use none need none. Not for two threads at once.
#ifndef CTSS_H
#define CTSS_H
#include <stddef.h>
#include <stdint.h>

typedef struct ctss_counter ctss_counter;

enum {
  CTSS_OK = 0,
  CTSS_NO_LIBRARY = 1,   // tpm2-tss is not installed
  CTSS_FAILED = 2,       // the TPM can't be reached or refuses
  CTSS_NO_INDEX = 3,     // there is no such NV index
  CTSS_NO_COUNTER = 4,   // it is no counter that its (empty) authorization value may read and increment
  CTSS_NEVER_COUNTED = 5 // it has not been incremented since it was defined
};

// Connects (tcti: what Tss2_TctiLdr_Initialize takes) and looks the index up. On failure `message` has the reason, and
// there is nothing to close. The connection is kept: no call after this opens a file or a socket.
int ctss_open(const char *tcti, uint32_t index, ctss_counter **counter, char *message, size_t size);
// TPM2_NV_Read, 8 bytes.
int ctss_read(ctss_counter *counter, uint64_t *value, char *message, size_t size);
// TPM2_NV_Increment.
int ctss_increment(ctss_counter *counter, char *message, size_t size);
void ctss_close(ctss_counter *counter);
#endif
