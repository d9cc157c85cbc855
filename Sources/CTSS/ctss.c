#include "ctss.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_rc.h>
#include <tss2/tss2_tctildr.h>

#define FUNCTION(name) __typeof__(name) *name

struct ctss_counter {
  void *esys, *tctildr, *rc;
  FUNCTION(Esys_Initialize);
  FUNCTION(Esys_Finalize);
  FUNCTION(Esys_Free);
  FUNCTION(Esys_TR_FromTPMPublic);
  FUNCTION(Esys_NV_ReadPublic);
  FUNCTION(Esys_NV_Read);
  FUNCTION(Esys_NV_Increment);
  FUNCTION(Tss2_TctiLdr_Initialize);
  FUNCTION(Tss2_TctiLdr_Finalize);
  FUNCTION(Tss2_RC_Decode); // may be NULL
  TSS2_TCTI_CONTEXT *tcti;
  ESYS_CONTEXT *context;
  ESYS_TR index;
};

static int failed(ctss_counter *c, const char *what, TSS2_RC rc, char *message, size_t size) {
  const char *reason = c->Tss2_RC_Decode ? c->Tss2_RC_Decode(rc) : NULL;
  if (reason)
    snprintf(message, size, "%s failed: %s", what, reason);
  else
    snprintf(message, size, "%s failed: 0x%x", what, (unsigned)rc);
  return CTSS_FAILED;
}

static int load(ctss_counter *c, char *message, size_t size) {
  c->esys = dlopen("libtss2-esys.so.0", RTLD_NOW | RTLD_LOCAL);
  if (c->esys) c->tctildr = dlopen("libtss2-tctildr.so.0", RTLD_NOW | RTLD_LOCAL);
  if (!c->tctildr) {
    const char *reason = dlerror();
    snprintf(message, size, "%s", reason ? reason : "libtss2-esys is missing");
    return CTSS_NO_LIBRARY;
  }
  c->rc = dlopen("libtss2-rc.so.0", RTLD_NOW | RTLD_LOCAL);
  if (c->rc) c->Tss2_RC_Decode = dlsym(c->rc, "Tss2_RC_Decode");
#define LOAD(library, name)                              \
  if (!(c->name = dlsym(c->library, #name))) {           \
    snprintf(message, size, "tpm2-tss has no " #name);   \
    return CTSS_NO_LIBRARY;                              \
  }
  LOAD(esys, Esys_Initialize)
  LOAD(esys, Esys_Finalize)
  LOAD(esys, Esys_Free)
  LOAD(esys, Esys_TR_FromTPMPublic)
  LOAD(esys, Esys_NV_ReadPublic)
  LOAD(esys, Esys_NV_Read)
  LOAD(esys, Esys_NV_Increment)
  LOAD(tctildr, Tss2_TctiLdr_Initialize)
  LOAD(tctildr, Tss2_TctiLdr_Finalize)
  return CTSS_OK;
}

// Whether the TPM says that a handle names nothing (format one, whichever handle).
static int is_handle(TSS2_RC rc) { return (rc & ~(TSS2_RC)0xF40) == TPM2_RC_HANDLE; }

static int look_up(ctss_counter *c, uint32_t index, char *message, size_t size) {
  TSS2_RC rc =
      c->Esys_TR_FromTPMPublic(c->context, index, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &c->index);
  if (is_handle(rc)) {
    snprintf(message, size, "the TPM has no NV index 0x%08x", (unsigned)index);
    return CTSS_NO_INDEX;
  }
  if (rc) return failed(c, "TPM2_NV_ReadPublic", rc, message, size);
  TPM2B_NV_PUBLIC *public = NULL;
  TPM2B_NAME *name = NULL;
  rc = c->Esys_NV_ReadPublic(c->context, c->index, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &public, &name);
  if (rc) return failed(c, "TPM2_NV_ReadPublic", rc, message, size);
  TPMA_NV attributes = public->nvPublic.attributes;
  // An orderly counter jumps ahead when the TPM loses power, and a good image would be refused.
  int is_counter = (attributes & TPMA_NV_TPM2_NT_MASK) >> TPMA_NV_TPM2_NT_SHIFT == TPM2_NT_COUNTER &&
                   attributes & TPMA_NV_AUTHREAD && attributes & TPMA_NV_AUTHWRITE && !(attributes & TPMA_NV_ORDERLY);
  c->Esys_Free(public);
  c->Esys_Free(name);
  if (is_counter) return CTSS_OK;
  snprintf(message, size, "NV index 0x%08x is no counter with authread and authwrite, and without orderly", (unsigned)index);
  return CTSS_NO_COUNTER;
}

int ctss_open(const char *tcti, uint32_t index, ctss_counter **counter, char *message, size_t size) {
  ctss_counter *c = calloc(1, sizeof *c);
  if (!c) {
    snprintf(message, size, "out of memory");
    return CTSS_FAILED;
  }
  // What it reports comes back as codes; a program's standard error is not a library's.
  setenv("TSS2_LOG", "all+NONE", 0);
  int result = load(c, message, size);
  if (!result) {
    TSS2_RC rc = c->Tss2_TctiLdr_Initialize(tcti, &c->tcti);
    if (!rc) rc = c->Esys_Initialize(&c->context, c->tcti, NULL);
    result = rc ? failed(c, "connecting to the TPM", rc, message, size) : look_up(c, index, message, size);
  }
  if (result)
    ctss_close(c);
  else
    *counter = c;
  return result;
}

int ctss_read(ctss_counter *c, uint64_t *value, char *message, size_t size) {
  TPM2B_MAX_NV_BUFFER *data = NULL;
  TSS2_RC rc = c->Esys_NV_Read(c->context, c->index, c->index, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, 8, 0, &data);
  if (rc == TPM2_RC_NV_UNINITIALIZED) {
    snprintf(message, size, "it was never incremented");
    return CTSS_NEVER_COUNTED;
  }
  if (is_handle(rc)) {
    snprintf(message, size, "the TPM has that NV index no more");
    return CTSS_NO_INDEX;
  }
  if (rc) return failed(c, "TPM2_NV_Read", rc, message, size);
  int result = CTSS_OK;
  if (data->size == 8) {
    *value = 0;
    for (int i = 0; i < 8; i++) *value = *value << 8 | data->buffer[i];
  } else {
    snprintf(message, size, "TPM2_NV_Read gave %u bytes", (unsigned)data->size);
    result = CTSS_FAILED;
  }
  c->Esys_Free(data);
  return result;
}

int ctss_increment(ctss_counter *c, char *message, size_t size) {
  TSS2_RC rc = c->Esys_NV_Increment(c->context, c->index, c->index, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE);
  return rc ? failed(c, "TPM2_NV_Increment", rc, message, size) : CTSS_OK;
}

void ctss_close(ctss_counter *c) {
  if (c->context) c->Esys_Finalize(&c->context);
  if (c->tcti) c->Tss2_TctiLdr_Finalize(&c->tcti);
  // The libraries stay: what they have started or registered may outlive a connection.
  free(c);
}
