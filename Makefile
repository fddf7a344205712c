# Helmline. "make help" lists what can be made.

PREFIX  ?= /usr/local
DESTDIR ?=
bindir   = $(PREFIX)/bin
unitdir  = $(PREFIX)/lib/systemd/system
usersdir = $(PREFIX)/lib/sysusers.d

# How long each fuzz target runs in "make check".
FUZZTIME ?= 12s

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOBUILD  = go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
TOOL     = go tool -modfile=.ci/tools/go.mod
comma   := ,
# Folders that begin with a dot are no part of ./..., so those with tests are looked up.
CITESTS := $(patsubst %/,./%,$(sort $(dir $(wildcard .ci/*/*_test.go .ci/*/*/*_test.go))))

.PHONY: help build web test check demo bench install fuzz
help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile | expand -t 10

build: ## relayd, hostd and hostd-pam into bin/; TURBO=1 makes hostd with libjpeg-turbo
	CGO_ENABLED=0 $(GOBUILD) -o bin/relayd ./relayd
	.ci/install build $(if $(TURBO),turbo)
	$(if $(TURBO),CGO_ENABLED=1 $(GOBUILD) -tags turbo$(comma)netgo$(comma)osusergo,CGO_ENABLED=0 $(GOBUILD)) -o bin/hostd ./hostd
	CGO_ENABLED=1 $(GOBUILD) -o bin/hostd-pam ./hostd/pam

# Root, for whom "make install" is, need not have Go in its path, so what is built stays as it is.
bin/relayd bin/hostd bin/hostd-pam &:
	$(MAKE) build

web: ## what browsers load, from relayd/web/src into relayd/web/dist, which is committed; wants npm
	.ci/bundle relayd/web/dist

test: ## every test; installs what is missing
	.ci/install build turbo demo test
	go test ./...
	go test -tags turbo ./bridge/rfb
	go test -p 1 -timeout 30m $(CITESTS)

check: ## format, vet, staticcheck, imports, known vulnerabilities, units, fuzzing
	.ci/install build test
	FUZZTIME=$(FUZZTIME) .ci/check

bench: TURBO = 1
bench: build ## beside its peers, in one run: the relay and the screen server; takes two hours and wants a quiet machine
	.ci/install build demo test bench
	go run ./.ci/bench/relay
	go run ./.ci/bench/signin
	go run ./.ci/bench/screen
	go run ./.ci/bench/screen -rate 10 -trip 40 -many=false -only typing,film,scrolled
	go run ./.ci/bench/screen -rate 20 -trip 40 -many=false -only film
	go run ./.ci/bench/screen -trip 40 -many=false -only typing,scrolled

fuzz: ## every fuzz target for FUZZTIME (12s)
	go run ./.ci/fuzz -time $(FUZZTIME)

demo: build ## a relay, this computer and a desktop to try; ADDRESS=0.0.0.0 lets other machines in
	@mkdir -p .demo
	go build -o .demo/demo ./.ci/demo
	@exec .demo/demo $(if $(ADDRESS),-address $(ADDRESS))

install: bin/relayd bin/hostd bin/hostd-pam ## what "make build" made, into DESTDIR and PREFIX (/usr/local); settings in /etc/helmline are kept
	install -d $(DESTDIR)$(bindir) $(DESTDIR)$(unitdir) $(DESTDIR)$(usersdir) $(DESTDIR)/etc/helmline $(DESTDIR)/etc/pam.d
	install -m 755 bin/relayd bin/hostd bin/hostd-pam $(DESTDIR)$(bindir)
	for u in relayd.service relayd.socket hostd.service hostd-net.service; do \
		sed 's|/usr/bin/|$(bindir)/|g' systemd/$$u > $(DESTDIR)$(unitdir)/$$u && chmod 644 $(DESTDIR)$(unitdir)/$$u || exit 1; done
	install -m 644 systemd/helmline.sysusers $(DESTDIR)$(usersdir)/helmline.conf
	for f in relayd hostd; do [ -e $(DESTDIR)/etc/helmline/$$f.toml ] || install -m 644 conf/$$f.toml $(DESTDIR)/etc/helmline/; done
	[ -e $(DESTDIR)/etc/pam.d/hostd ] || install -m 644 systemd/hostd.pam $(DESTDIR)/etc/pam.d/hostd
