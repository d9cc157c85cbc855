# What a visitor types. Everything that is built is under .build; `make install` copies the programs from there.
#
#   make demo      builds the programs and shows them at work, in a minute or two; some seconds the second time
#   make test      builds and runs all tests
#   make bench     measures, in ratios
#
#   make soak      looks for lost or mixed states at random for ten minutes, and for ten more for an order of threads in
#                  which the NVRAM breaks a promise; SECONDS=60 for one each
#   make soak-mutants   shows that it would find them: puts faults into the store and waits until each is noticed
#   make soak-kill SIGKILL under tpm2-tools, 500 times (ROUNDS=…); some minutes
#   make fuzz      fuzzes everything that parses, 2 minutes a target (FUZZ_SECONDS=120), two at a time, and prints the
#                  coverage; FUZZ_TARGETS="image keys" runs some of them (image sealed anchor stream layout fields control data guest keys swtpm)
#   make tsan      the API's tests under the thread sanitizer, 20 times (TSAN_RUNS=…); 25 minutes
#   make coverage  which lines of Sources the tests run, of each module and file; some minutes
#
#   make install   copies programs, manual pages and documents to $(DESTDIR)$(PREFIX), and, to $(DESTDIR)/etc, the rule by
#                  which the kernel asks for keys (Keys/README.md). A rule that somebody changed stays; the new one is put
#                  beside it, as vnvram.conf.new
#   make uninstall removes what it installed; what somebody changed or added stays
#   make install-as-swtpm   gives vnvram-swtpm the name swtpm there, too, under which libvirt looks for it; Debian's own is
#                  diverted. PREFIX=/usr for libvirt. make uninstall-as-swtpm takes it away and brings Debian's back
#   make lint      is the code formatted as it should be?
#   make clean     removes all that was built
#
# Debian packages that are missing are installed first (Tools/install-packages.sh has the list). Swift 6.3 must be there.

SWIFT ?= swift
PREFIX ?= /usr/local
DESTDIR ?=

# One interpreter for everything that is Python in the tests: Debian's, which has Debian's python3-cryptography. Another
# one serves as well if it has the package `cryptography`, 38 or later.
VNVRAM_PYTHON ?= /usr/bin/python3
export VNVRAM_PYTHON

# The programs that are installed carry Swift's libraries in them, and so have a build folder of their own: what is
# built for the tests is built with other flags, and one would be built anew after the other.
#
# There is one vnvram-swtpm per virtual machine, so it must be small. These spare it 1.7 MB of 13 MB resident: the parts of
# the C++ library that Swift's runtime uses in place of all of it (it is found first in a folder that has the archive alone),
# relocations in their short form, and no table of every symbol, which would also keep what nothing uses.
PROGRAMS = .build/programs/release
ARCHIVES = .build/archives
BUILD_PROGRAMS = $(SWIFT) build --configuration release --static-swift-stdlib --disable-local-rpath --scratch-path .build/programs \
	-Xswiftc -use-ld=lld -Xswiftc -L$(CURDIR)/$(ARCHIVES) -Xswiftc -Xclang-linker -Xswiftc -static-libgcc \
	-Xlinker --no-export-dynamic -Xlinker -z -Xlinker pack-relative-relocs

bindir = $(DESTDIR)$(PREFIX)/bin
mandir = $(DESTDIR)$(PREFIX)/share/man
docdir = $(DESTDIR)$(PREFIX)/share/doc/vnvram
# What finds, and loads, keys. /sbin/request-key looks for rules in /etc alone.
libexecdir = $(PREFIX)/libexec/vnvram
unitdir = $(PREFIX)/lib/systemd/system
SYSCONFDIR ?= $(if $(filter /usr /usr/local,$(PREFIX)),/etc,$(PREFIX)/etc)
# What is an operator's to change, as it was installed: by it a change is told (Tools/conffile.sh).
keptdir = $(PREFIX)/share/vnvram/installed
FILL_IN = sed 's,@LIBEXECDIR@,$(libexecdir),; s,@BINDIR@,$(PREFIX)/bin,; s,@DOCDIR@,$(PREFIX)/share/doc/vnvram,'

.PHONY: all demo test soak soak-mutants soak-kill fuzz tsan coverage bench install uninstall install-as-swtpm \
	uninstall-as-swtpm lint clean programs swift

all: programs

programs: swift
	@Tools/install-packages.sh build
	@echo "Building vnvram and vnvram-swtpm, optimised; the first time takes a minute or two."
	@mkdir -p $(ARCHIVES)
	@ln -sf "$$(clang -print-file-name=libstdc++.a)" $(ARCHIVES)/libstdc++.a
	@$(BUILD_PROGRAMS) --product vnvram
	@$(BUILD_PROGRAMS) --product vnvram-swtpm

demo: programs
	@Tools/install-packages.sh demo
	@Demo/demo.sh $(PROGRAMS)

test: swift
	@Tools/install-packages.sh build test
	@Tools/prepare-guest.sh || echo "The tests that boot virtual machines are skipped." >&2
	@Tools/run-tests.sh

ROUNDS ?= 500
soak-kill: swift
	@Tools/install-packages.sh build test
	@$(SWIFT) build --configuration release -Xswiftc -enable-testing --build-tests
	@VNVRAM_KILL_ROUNDS=$(ROUNDS) $(SWIFT) test --configuration release -Xswiftc -enable-testing --skip-build --disable-xctest \
		--filter ToolKillTests

tsan: swift
	@Tools/install-packages.sh build test
	@Tools/run-tsan.sh

coverage: swift
	@Tools/install-packages.sh build test
	@Tools/run-coverage.sh

fuzz: swift
	@Tools/install-packages.sh build demo
	@Tests/Fuzz/run.sh

bench: programs
	@Tools/install-packages.sh test bench
	@$(BUILD_PROGRAMS) --product vnvram-bench
	@Tests/Benchmarks/run.sh $(PROGRAMS)
	@Tools/prepare-guest.sh || true
	@Tests/Benchmarks/guest-boot.sh $(PROGRAMS)

# Built with the flags of the tests, so that nothing is built twice.
SECONDS = 600
soak: swift
	@Tools/install-packages.sh build
	@$(SWIFT) build --configuration release -Xswiftc -enable-testing --product vnvram-soak
	@.build/release/vnvram-soak --seconds $(SECONDS)
	@.build/release/vnvram-soak --schedules --seconds $(SECONDS)

soak-mutants: swift
	@Tools/install-packages.sh build
	@Tests/Soak/mutants.sh

lint: swift
	swift-format lint --strict --recursive Sources Tests Package.swift

install:
	@test -x $(PROGRAMS)/vnvram-swtpm || { echo "Run make first, as yourself." >&2; exit 1; }
	install -d $(bindir) $(docdir)/Keys $(mandir)/man1 $(mandir)/man8
	install -m 755 -s $(PROGRAMS)/vnvram $(PROGRAMS)/vnvram-swtpm $(bindir)
	install -m 644 README.md FORMAT.md SECURITY.md CHANGELOG.md LICENSE $(docdir)
	install -m 644 Keys/README.md $(docdir)/Keys
	install -m 644 man/vnvram.1 $(mandir)/man1
	install -m 644 man/vnvram-swtpm.8 $(mandir)/man8
	install -d $(DESTDIR)$(libexecdir) $(DESTDIR)$(unitdir) $(DESTDIR)$(keptdir) $(DESTDIR)$(SYSCONFDIR)/request-key.d
	install -d -m 755 $(DESTDIR)$(SYSCONFDIR)/vnvram
	install -m 755 Keys/providers/vnvram-key-from-file $(DESTDIR)$(libexecdir)
	$(FILL_IN) Keys/systemd/vnvram-key@.service >$(DESTDIR)$(unitdir)/vnvram-key@.service
	chmod 644 $(DESTDIR)$(unitdir)/vnvram-key@.service
	$(FILL_IN) Keys/request-key.d/vnvram.conf >$(DESTDIR)$(keptdir)/vnvram.conf.tmp
	@Tools/conffile.sh install $(DESTDIR)$(keptdir)/vnvram.conf.tmp $(DESTDIR)$(SYSCONFDIR)/request-key.d/vnvram.conf \
		$(DESTDIR)$(keptdir)/request-key.d-vnvram.conf
	@rm -f $(DESTDIR)$(keptdir)/vnvram.conf.tmp

install-as-swtpm:
	@Tools/as-swtpm.sh install "$(DESTDIR)" "$(PREFIX)/bin"

uninstall-as-swtpm:
	@Tools/as-swtpm.sh uninstall "$(DESTDIR)" "$(PREFIX)/bin"

# What `install` made, and nothing else: a folder goes only where nothing is left in it.
uninstall: uninstall-as-swtpm
	rm -f $(bindir)/vnvram $(bindir)/vnvram-swtpm $(mandir)/man1/vnvram.1 $(mandir)/man8/vnvram-swtpm.8
	rm -f $(addprefix $(docdir)/,README.md FORMAT.md SECURITY.md CHANGELOG.md LICENSE Keys/README.md)
	rm -f $(DESTDIR)$(unitdir)/vnvram-key@.service $(DESTDIR)$(libexecdir)/vnvram-key-from-file
	@Tools/conffile.sh uninstall $(DESTDIR)$(SYSCONFDIR)/request-key.d/vnvram.conf $(DESTDIR)$(keptdir)/request-key.d-vnvram.conf
	@for folder in $(docdir)/Keys $(docdir) $(DESTDIR)$(libexecdir) $(DESTDIR)$(keptdir) $(DESTDIR)$(PREFIX)/share/vnvram \
		$(DESTDIR)$(SYSCONFDIR)/vnvram; do \
		if [ -d "$$folder" ]; then rmdir --ignore-fail-on-non-empty -- "$$folder"; fi; \
	done

clean:
	rm -rf .build

swift:
	@command -v $(SWIFT) >/dev/null || { echo "Swift is not on the path. Its toolchain for Debian 12 is on swift.org; version 6.3 or later is needed." >&2; exit 1; }
