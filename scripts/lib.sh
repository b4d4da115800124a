# Read by the commands in this folder with `.`; not run by itself. POSIX sh: a fresh machine has no more.
# Needs git, Node 20 or newer and npm; everything else comes from the committed package-lock.json.

set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
cd "$ROOT"

BUN=$ROOT/node_modules/.bin/bun
DENO=$ROOT/node_modules/.bin/deno
BIOME=$ROOT/node_modules/.bin/biome

# What the tests call beside our own binary, as `command:debian-package`. The one place to add to.
TEST_COMMANDS="curl:curl openssl:openssl tinyproxy:tinyproxy microsocks:microsocks ip:iproute2 nft:nftables conntrack:conntrack ssh:openssh-client sshd:openssh-server redis-server:redis-server redis-benchmark:redis-tools scp:openssh-client rsync:rsync pg_ctlcluster:postgresql smbd:samba smbclient:smbclient xrdp:xrdp xfreerdp:freerdp2-x11 Xvfb:xvfb nginx:nginx-light chromium:chromium certutil:libnss3-tools systemd-nspawn:systemd-container debootstrap:debootstrap minisign:minisign qemu-aarch64-static:qemu-user-static /usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1:libc6-arm64-cross /lib/ld-musl-x86_64.so.1:musl wine:wine mcs:mono-mcs busybox:busybox shellcheck:shellcheck rpmbuild:rpm cpio:cpio readelf:binutils skopeo:skopeo umoci:umoci plistutil:libplist-utils /usr/x86_64-linux-gnu/lib/ld-linux-x86-64.so.2:libc6-amd64-cross faketime:faketime promtool:prometheus prometheus:prometheus bindfs:bindfs"

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() {
  warn "error: $*"
  exit 1
}

# Installs the locked npm packages once per content of package-lock.json; afterwards this costs a few milliseconds.
# Install scripts of packages stay off: npm 10 runs them, npm 11 refuses to, and only two of them are needed.
ensure_packages() {
  installed=node_modules/.installed-package-lock.json
  if ! cmp -s package-lock.json "$installed"; then
    command -v node >/dev/null || die "node is missing: install Node.js 20 or newer"
    command -v npm >/dev/null || die "npm is missing: install npm 10 or newer"
    say "installing npm packages"
    npm ci --ignore-scripts --include=dev --include=optional --loglevel=error
    "$BUN" --version >/dev/null 2>&1 || node node_modules/bun/install.js
    "$BUN" --version >/dev/null || die "the bun package does not run on this machine"
    if ! "$DENO" --version >/dev/null 2>&1; then
      # Only tests of the second runtime need Deno, and it has no build for musl.
      node node_modules/deno/install.cjs || warn "deno does not run on this machine: tests that need it are skipped"
    fi
    cp package-lock.json "$installed"
  fi
}

install_debian() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "$@"
}

# Installs the commands that tests call, where that is possible without asking anybody.
ensure_test_commands() {
  missing=
  for entry in $TEST_COMMANDS; do
    command -v "${entry%%:*}" >/dev/null || missing="$missing ${entry#*:}"
  done
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing Debian packages:$missing"
    # All at once is quicker; one by one, a package that this Debian lacks does not keep the others out.
    # shellcheck disable=SC2086,SC2015 # a list of words on purpose; either may fail
    { apt-get -q update && install_debian $missing || for one in $missing; do install_debian "$one"; done; } \
      >dist/apt.log 2>&1 || warn "apt-get failed, see dist/apt.log"
  else
    warn "not installed:$missing (tests that need them are skipped)"
  fi
}

# Builds dist/culvert, and proves that what was built runs: bun exits 0 even when it made a broken binary.
build_binary() {
  mkdir -p dist
  "$BUN" scripts/release/build.ts --binary dist/culvert
}
