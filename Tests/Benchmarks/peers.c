// Durable updates of one 4 KiB value by SQLite and LMDB, as Debian has them, for CommitBenchmark.
//
//   peers DIRECTORY     on standard input requests: a byte, 's' for SQLite or 'l' for LMDB, and how many updates,
//                       32 bits; on standard output each update's nanoseconds, 64 bits. In the machine's byte order.
#include <lmdb.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { valueSize = 4096 };

static sqlite3 *database;
static sqlite3_stmt *update;
static MDB_env *environment;
static MDB_dbi values;

static void require(int isFine, const char *what) {
  if (isFine) return;
  fprintf(stderr, "peers: %s failed\n", what);
  exit(1);
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void openSQLite(const char *directory) {
  char path[4096];
  snprintf(path, sizeof path, "%s/peers.sqlite", directory);
  require(sqlite3_open(path, &database) == SQLITE_OK, "sqlite3_open");
  static const char *const statements[] = {
      "PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL",
      "CREATE TABLE entries (id INTEGER PRIMARY KEY, content BLOB)",
      "INSERT INTO entries VALUES (1, zeroblob(4096))"};
  for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
    require(sqlite3_exec(database, statements[i], NULL, NULL, NULL) == SQLITE_OK, statements[i]);
  int result = sqlite3_prepare_v2(database, "UPDATE entries SET content = ? WHERE id = 1", -1, &update, NULL);
  require(result == SQLITE_OK, "sqlite3_prepare_v2");
}

static void updateSQLite(const void *value) {
  require(sqlite3_bind_blob(update, 1, value, valueSize, SQLITE_STATIC) == SQLITE_OK, "sqlite3_bind_blob");
  require(sqlite3_step(update) == SQLITE_DONE, "UPDATE");
  require(sqlite3_reset(update) == SQLITE_OK, "sqlite3_reset");
}

static void openLMDB(const char *directory) {
  char path[4096];
  MDB_txn *transaction;
  snprintf(path, sizeof path, "%s/peers.lmdb", directory);
  require(mdb_env_create(&environment) == 0, "mdb_env_create");
  require(mdb_env_set_mapsize(environment, 64 << 20) == 0, "mdb_env_set_mapsize");
  require(mdb_env_open(environment, path, MDB_NOSUBDIR, 0600) == 0, "mdb_env_open");
  require(mdb_txn_begin(environment, NULL, 0, &transaction) == 0, "mdb_txn_begin");
  require(mdb_dbi_open(transaction, NULL, 0, &values) == 0, "mdb_dbi_open");
  require(mdb_txn_commit(transaction) == 0, "mdb_txn_commit");
}

static void updateLMDB(void *value) {
  MDB_txn *transaction;
  MDB_val key = {7, "content"}, data = {valueSize, value};
  require(mdb_txn_begin(environment, NULL, 0, &transaction) == 0, "mdb_txn_begin");
  require(mdb_put(transaction, values, &key, &data, 0) == 0, "mdb_put");
  require(mdb_txn_commit(transaction) == 0, "mdb_txn_commit");
}

int main(int count, char **arguments) {
  static unsigned char value[valueSize];
  unsigned char round = 0;
  struct __attribute__((packed)) {
    char peer;
    uint32_t updates;
  } request;
  require(count == 2, "usage: peers DIRECTORY");
  openSQLite(arguments[1]);
  openLMDB(arguments[1]);
  while (fread(&request, sizeof request, 1, stdin) == 1) {
    for (uint32_t i = 0; i < request.updates; i++) {
      memset(value, ++round, sizeof value);
      uint64_t start = now();
      if (request.peer == 's') updateSQLite(value);
      else updateLMDB(value);
      uint64_t taken = now() - start;
      // Buffered: nothing is written between two updates but now and then.
      require(fwrite(&taken, sizeof taken, 1, stdout) == 1, "writing");
    }
    require(fflush(stdout) == 0, "writing");
  }
  sqlite3_finalize(update);
  sqlite3_close(database);
  mdb_env_close(environment);
  return 0;
}
