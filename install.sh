#!/bin/sh
# Installs the culvert binary for this machine, or another version of it, and with a token its service:
#
#   curl -fsSL https://edge.example.com/install.sh | sh
#   sh install.sh --help
#
# It runs on any POSIX shell. What it downloads is checked against the signed SHA256SUMS of the release before anything
# of it runs. Everything is a function and the last line calls main, so that a script cut off on its way does nothing.

set -eu

# Whoever hands this script out fills these in: an edge its own address, and both the minisign keys that it trusts.
DEFAULT_BASE_URL=''
DEFAULT_KEYS=''
# Emptied by whoever hands it out: only the repository's own script builds what lies beside it.
FROM_CHECKOUT='yes'

MAX_SMALL_BYTES=1048576
# No download may be larger, in blocks of 512 bytes.
MAX_SMALL_BLOCKS=32768
MAX_BINARY_BLOCKS=1048576
# What a disk is left with, in KiB.
SPARE_KIB=1024
# Seconds without a byte after which a server has gone.
SILENCE_S=30
MAX_TRIES=4
wget_timeout="-T $SILENCE_S"

usage() {
  cat <<'END'
usage: install.sh [TOKEN] [options]

With a TOKEN it also installs and starts the tunnel's service. The command line of a process can be seen by others on
this machine: CULVERT_TOKEN in the environment, or --token-file, keep the token off it.

  --version V          install this version instead of the newest
  --dir DIR            install to DIR/culvert; default /usr/local/bin as root, else ~/.local/bin
  --user               install for this account alone, as without root
  --token-file FILE    file that holds the token
  --no-service         leave services alone: install, restart and remove none
  --base-url URL       take releases from URL/dl/ (CULVERT_BASE_URL)
  --key KEY            trust this minisign public key too: a .pub file or its second line (CULVERT_UPDATE_KEY)
  --cacert FILE        authorities (PEM) that the server's certificate is checked with, such as the ca.pem of an edge
                       with --tls-internal (CULVERT_CACERT)
  --offline BUNDLE     take everything from what `culvert bundle` wrote: the archive, or the folder it was unpacked to
  --binary FILE        install this file, which you vouch for
  --sha256 HEX         refuse the --binary unless its SHA-256 is this
  --yes                do not ask: install an older version than the one that is there
  --uninstall          remove DIR/culvert and its services; configuration and tokens stay
  --purge              with --uninstall: remove configuration, tokens and state too
  --dry-run            say what would be done, and do nothing
  --insecure-no-signature
                       take a release that nobody has signed; its checksums are still compared
  --help               show this

Run in a checkout of culvert and without a place to download from, it builds the binary.
END
}

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$1" >&2
  shift
  for hint; do printf '  %s\n' "$hint" >&2; done
  exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

main() {
  # Messages of other programs are looked at.
  LC_ALL=C
  export LC_ALL
  umask 022
  base_url=${CULVERT_BASE_URL:-$DEFAULT_BASE_URL}
  cacert=${CULVERT_CACERT:-}
  keys=$DEFAULT_KEYS
  for key in $(say "${CULVERT_UPDATE_KEY:-}" | tr ',' ' '); do keys="$keys $(read_key "$key")"; done
  token=${CULVERT_TOKEN:-}
  # No program that is started from here has a use for it in its environment.
  unset CULVERT_TOKEN
  token_file=
  wanted=
  dir=
  offline=
  binary=
  sha256=
  action=install
  user=no
  services=yes
  assume_yes=no
  purge=no
  dry_run=no
  unsigned=no
  given=no
  while [ $# -gt 0 ]; do
    case $1 in
      --version | --dir | --token-file | --base-url | --key | --cacert | --offline | --binary | --sha256)
        [ -n "${2:-}" ] || die "$1 needs a value"
        case $1 in
          --version) wanted=${2#v} ;;
          --dir) dir=$2 ;;
          --token-file) token_file=$2 ;;
          --base-url) base_url=$2 ;;
          --key) keys="$keys $(read_key "$2")" ;;
          --cacert) cacert=$2 ;;
          --offline) offline=$2 ;;
          --binary) binary=$2 ;;
          --sha256) sha256=$2 ;;
        esac
        shift
        ;;
      --user) user=yes ;;
      --no-service) services=no ;;
      --yes | -y) assume_yes=yes ;;
      --uninstall) action=uninstall ;;
      --purge) purge=yes ;;
      --dry-run) dry_run=yes ;;
      --insecure-no-signature) unsigned=yes ;;
      --help | -h)
        usage
        exit 0
        ;;
      -*) die "unknown option \"$1\"; see --help" ;;
      *)
        # Not repeated in the message: it may be a token.
        [ "$given" = no ] || die "give one token at most; see --help"
        given=yes
        token=$1
        ;;
    esac
    shift
  done
  check_arguments
  work=
  lock=
  trap 'leave' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  "$action"
}

check_arguments() {
  if [ "$given" = yes ] && [ -n "$token_file" ]; then die "give TOKEN or --token-file, not both"; fi
  [ -z "$token_file" ] || token=
  # One in the environment stands for no wish of its own.
  if [ "$given" = no ] && { [ "$services" = no ] || [ "$action" = uninstall ]; }; then token=; fi
  case $token in
    *[!A-Za-z0-9+/=_-]*) die "the token holds characters that no token has" ;;
  esac
  if [ -n "$token$token_file" ]; then
    [ "$action" = install ] || die "--uninstall takes no token"
    [ "$services" = yes ] || die "--no-service and a token do not go together"
  fi
  [ -z "$token_file" ] || [ -r "$token_file" ] || die "cannot read the token file \"$token_file\""
  [ -z "$cacert" ] || [ -r "$cacert" ] || die "cannot read the authorities \"$cacert\""
  [ "$purge" = no ] || [ "$action" = uninstall ] || die "--purge goes with --uninstall"
  [ -z "$offline" ] || [ -z "$binary" ] || die "give --offline or --binary, not both"
  [ -z "$sha256" ] || [ -n "$binary" ] || die "--sha256 goes with --binary"
  case $wanted in
    *[!0-9A-Za-z.-]* | -*) die "\"$wanted\" is not a version" ;;
  esac
  base_url=${base_url%/}
  case $base_url in
    '' | http://?* | https://?*) ;;
    *) die "\"$base_url\" is not an http(s) address" ;;
  esac
  is_root=no
  [ "$(id -u)" != 0 ] || is_root=yes
  if [ "$user" = yes ] && [ "$is_root" = yes ]; then
    # A service that root installs is one of the machine, and those cannot see into an account's folder.
    [ -z "$token$token_file" ] || die "root's services are the machine's: leave --user out"
    services=no
  fi
  if [ -z "$dir" ]; then
    if [ "$is_root" = yes ] && [ "$user" = no ]; then
      dir=/usr/local/bin
    else
      [ -n "${HOME:-}" ] || die "HOME is not set; give --dir"
      dir=$HOME/.local/bin
    fi
  fi
  case $dir in
    /*) ;;
    *) dir=$(pwd)/$dir ;;
  esac
  dir=${dir%/}
  target=$dir/culvert
}

# read_key KEY: the key itself, which may be in a file.
read_key() {
  case $1 in
    *.pub)
      [ -r "$1" ] || die "cannot read the key \"$1\""
      grep -v '^untrusted comment:' "$1" | tr -d ' \r\n'
      ;;
    *) say "$1" ;;
  esac
}

leave() {
  status=$?
  trap - EXIT
  [ -z "$work" ] || rm -rf "$work"
  [ -z "$lock" ] || rm -f "$lock"
  exit "$status"
}

make_work() {
  [ -z "$work" ] || return 0
  work=$(mktemp -d "${TMPDIR:-/tmp}/culvert-install.XXXXXX") ||
    die "cannot make a folder in ${TMPDIR:-/tmp}" "Name another place with TMPDIR=DIR."
}

# --- what this machine is -------------------------------------------------------------------------------------------

# Sets build: which of the binaries of a release is for this machine.
find_build() {
  os=$(uname -s)
  cpu=$(uname -m)
  case $cpu in
    x86_64 | amd64) arch=x64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) die "there is no culvert for this CPU ($os $cpu)" "It exists for 64-bit x86 (x86_64) and 64-bit ARM (aarch64)." ;;
  esac
  case $os in
    Linux) find_linux_build ;;
    Darwin)
      # A shell under Rosetta is told of an Intel CPU.
      [ "$(sysctl -n sysctl.proc_translated 2>/dev/null || true)" != 1 ] || arch=arm64
      build=darwin-$arch
      ;;
    MINGW* | MSYS* | CYGWIN*) die "this script does not install on Windows" "Use install.ps1 in PowerShell instead." ;;
    *) die "there is no culvert for $os" "It exists for Linux, macOS and Windows." ;;
  esac
}

find_linux_build() {
  # A 64-bit kernel may carry a 32-bit system, as on many a Raspberry Pi: byte 4 of any program tells (ELF class).
  if [ -r /proc/self/exe ] && [ "$(od -An -j4 -N1 -tu1 /proc/self/exe 2>/dev/null | tr -d ' ')" = 1 ]; then
    die "this is a 32-bit system on a 64-bit CPU ($cpu)" "culvert needs a 64-bit system."
  fi
  case $arch in
    x64) glibc=/lib64/ld-linux-x86-64.so.2 musl=/lib/ld-musl-x86_64.so.1 ;;
    arm64) glibc=/lib/ld-linux-aarch64.so.1 musl=/lib/ld-musl-aarch64.so.1 ;;
  esac
  libc=
  if [ ! -e "$glibc" ]; then
    [ -e "$musl" ] || die "found neither glibc ($glibc) nor musl ($musl)" \
      "culvert cannot be loaded on a system without either, such as Android or a bare NixOS."
    libc=-musl
  fi
  build=linux-$arch$libc
  [ "$arch" = x64 ] || return 0
  flags=$(grep '^flags' /proc/cpuinfo 2>/dev/null | head -n 1 || true)
  [ -n "$flags" ] || return 0
  case "$flags " in
    *' sse4_2 '*) ;;
    *) die "this CPU is too old: it lacks SSE4.2" "culvert needs an x86-64 CPU of 2008 (Nehalem) or newer." ;;
  esac
  case "$flags " in
    *' avx2 '*) ;;
    *) [ -n "$libc" ] || build=$build-baseline ;;
  esac
}

# --- fetching -------------------------------------------------------------------------------------------------------

without_login() { say "$1" | sed 's#//[^/@]*@#//#'; }

size_of() {
  if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else say 0; fi
}

# is_full DIR: whether nothing more fits there.
is_full() {
  free=$(df -Pk "$1" 2>/dev/null | awk 'NR > 1 { print $4; exit }')
  [ -n "$free" ] && [ "$free" -lt "$SPARE_KIB" ]
}

no_space() {
  die "there is no space left in $1" "culvert needs about 120 MB there. Nothing was changed."
}

# download NAME FILE BLOCKS: goes on with what FILE holds; ends the script when that fails.
download() {
  url=$base_url/dl/$1
  tries=1
  anew=no
  while ! transfer "$url" "$2" "$3"; do
    if is_full "$(dirname "$2")"; then
      rm -f "$2"
      no_space "$(dirname "$2")"
    fi
    if [ "$retry" = no ]; then
      # What lies there cannot be gone on with, or nothing can be had at all: from the start will tell.
      if [ "$(size_of "$2")" = 0 ] || [ "$anew" = yes ]; then give_up "$url"; fi
      rm -f "$2"
      anew=yes
    fi
    [ "$tries" -lt "$MAX_TRIES" ] || give_up "$url"
    sleep "$tries"
    tries=$((tries + 1))
  done
}

# transfer URL FILE BLOCKS: as much as one request brings. Sets reason, and retry when trying again can help.
transfer() {
  retry=no
  code=0
  if has curl; then
    quiet=-sS
    if [ -t 2 ] && [ "$3" = "$MAX_BINARY_BLOCKS" ]; then quiet=-#; fi
    # After https no step of the way may be without it.
    protocols=https
    case $1 in http://*) protocols=http,https ;; esac
    (
      ulimit -f "$3" 2>/dev/null || true
      exec curl -fL "$quiet" --proto "=$protocols" --connect-timeout 20 --speed-limit 1 --speed-time "$SILENCE_S" \
        ${cacert:+--cacert "$cacert"} -C - -o "$2" "$1" </dev/null
    ) || code=$?
    explain_curl "$code"
  elif has wget; then
    case $cacert:$1 in
      ?*:https://*)
        wget --help 2>&1 | grep -q -e '--ca-certificate' ||
          die "this wget checks no certificate with \"$cacert\"" "Install curl, or use --offline BUNDLE or --binary FILE."
        ;;
    esac
    (
      ulimit -f "$3" 2>/dev/null || true
      # Without exec, so that it is this shell, and not the one around it, that tells of a crash.
      # shellcheck disable=SC2086 # words on purpose
      wget -c -t 1 $wget_timeout ${cacert:+--ca-certificate="$cacert"} -O "$2" "$1" </dev/null 2>"$work/wget.log"
      exit $?
    ) 2>/dev/null || code=$?
    explain_wget "$code"
  else
    die "neither curl nor wget is installed" "Install one of them, or use --offline BUNDLE or --binary FILE."
  fi
  return "$code"
}

explain_curl() {
  case $1 in
    5 | 97) reason="the proxy cannot be reached" ;;
    6) reason="its host name is not known" ;;
    7) reason="nothing answers there" ;;
    18 | 52 | 55 | 56 | 92) reason="the connection was cut" retry=yes ;;
    22) reason="the server has no such file, or gives it to nobody" ;;
    23) reason="it cannot be written" ;;
    28) reason="it takes too long" retry=yes ;;
    33 | 36) reason="the server cannot go on with a file" ;;
    35 | 51 | 53 | 54 | 58 | 59 | 60 | 66 | 77 | 80 | 83 | 90 | 91) reason="the server's certificate or TLS is refused" ;;
    *) reason="curl ended with $1" ;;
  esac
}

explain_wget() {
  case $1 in
    0) return ;;
    139)
      # busybox of Debian 12 crashes when it is told of a time.
      wget_timeout=
      retry=yes
      reason="wget crashes"
      return
      ;;
  esac
  tail -n 3 "$work/wget.log" >&2
  # busybox has one exit code for everything.
  case $1 in
    3) reason="it cannot be written" ;;
    5) reason="the server's certificate or TLS is refused" ;;
    *)
      if grep -q -e 'ERROR [45]' -e 'server returned error' "$work/wget.log"; then
        reason="the server has no such file, or gives it to nobody"
      elif grep -q -e 'bad address' -e 'unable to resolve' "$work/wget.log"; then
        reason="its host name is not known"
      elif grep -q 'refused' "$work/wget.log"; then
        reason="nothing answers there"
      else
        reason="the connection was cut, or something on the way refuses it" retry=yes
      fi
      ;;
  esac
}

give_up() {
  proxy=${https_proxy:-${HTTPS_PROXY:-}}
  case $base_url in http://*) proxy=${http_proxy:-} ;; esac
  proxy=${proxy:-${all_proxy:-${ALL_PROXY:-}}}
  if [ -n "$proxy" ]; then
    die "cannot download $(without_login "$1"): $reason" \
      "It was asked for through the proxy $(without_login "$proxy")," \
      "which the environment names: see http_proxy, https_proxy and no_proxy."
  fi
  case $cacert:$reason in
    :*certificate*) die "cannot download $(without_login "$1"): $reason" \
      "An edge with --tls-internal has an authority of its own: give a copy of its ca.pem with --cacert ca.pem." ;;
  esac
  die "cannot download $(without_login "$1"): $reason" \
    "Where only a proxy leads outside, name it with https_proxy=http://HOST:PORT."
}

# bundled NAME FILE: takes one file out of the bundle, or fails.
bundled() {
  if [ -d "$offline" ]; then
    [ -f "$offline/$1" ] && cp "$offline/$1" "$2"
  else
    gzip -dc "$offline" 2>/dev/null | tar -xOf - "culvert-bundle/$1" >"$2" 2>/dev/null && [ -s "$2" ]
  fi
}

# obtain_small NAME FILE: one of the files that say what is in a release.
obtain_small() {
  if [ -n "$offline" ]; then
    bundled "$1" "$2" || return 1
  else
    rm -f "$2"
    download "$1" "$2" "$MAX_SMALL_BLOCKS"
  fi
  [ "$(size_of "$2")" -le "$MAX_SMALL_BYTES" ] || die "$1 is larger than any such file is"
}

# --- checking -------------------------------------------------------------------------------------------------------

# sha BITS: the SHA-2 of standard input, in hex.
sha() {
  if has "sha$1sum"; then
    sum=$("sha$1sum")
  elif has shasum; then
    sum=$(shasum -a "$1")
  elif has openssl; then
    sum=$(openssl dgst "-sha$1" -r)
  else
    die "cannot compute a SHA-$1: none of sha$1sum, shasum and openssl is installed"
  fi
  say "${sum%% *}"
}

hex_of_file() { od -An -v -tx1 "$1" | tr -d ' \n'; }

hex_of_base64() {
  awk -v text="$1" 'BEGIN {
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    sub(/=+$/, "", text)
    for (i = 1; i <= length(text); i++) {
      at = index(digits, substr(text, i, 1)) - 1
      if (at < 0) exit 1
      held = held * 64 + at
      bits += 6
      if (bits < 8) continue
      bits -= 8
      unit = 1
      for (n = 0; n < bits; n++) unit *= 2
      printf "%02x", int(held / unit)
      held %= unit
    }
  }'
}

# bytes HEX: writes them.
bytes() {
  # shellcheck disable=SC2059 # nothing but escapes is in it
  printf "$(say "$1" | awk '{
    for (i = 1; i < length($0); i += 2) {
      n = (index("0123456789abcdef", substr($0, i, 1)) - 1) * 16 + index("0123456789abcdef", substr($0, i + 1, 1)) - 1
      printf "\\%03o", n
    }
  }')"
}

# BLAKE2b-512 of a file whose bytes come as decimal numbers, in hex (RFC 7693).
blake2b() {
  od -An -v -tu1 "$1" | awk '
function byte(hex, i) { return D[substr(hex, 2 * i + 1, 1)] * 16 + D[substr(hex, 2 * i + 2, 1)] }
# Words are 8 bytes, low one first.
function load(at, hex,  i) { for (i = 0; i < 8; i++) V[at + i] = byte(hex, 7 - i) }
function add(a, from, b,  i, s) {
  for (i = s = 0; i < 8; i++) {
    s += V[a + i] + from[b + i]
    V[a + i] = s % 256
    s = int(s / 256)
  }
}
# d becomes (d xor a), turned right by n bytes.
function turn(d, a, n,  i) {
  for (i = 0; i < 8; i++) T[i] = X[V[d + i] * 256 + V[a + i]]
  for (i = 0; i < 8; i++) V[d + i] = T[(i + n) % 8]
}
function mix(a, b, c, d, x, y,  i, s) {
  add(a, V, b); add(a, M, x); turn(d, a, 4)
  add(c, V, d); turn(b, c, 3)
  add(a, V, b); add(a, M, y); turn(d, a, 2)
  add(c, V, d); turn(b, c, 0)
  # By 63 bits to the right is by one to the left.
  s = V[b + 7] >= 128
  for (i = 0; i < 8; i++) {
    s += V[b + i] * 2
    V[b + i] = s % 256
    s = int(s / 256)
  }
}
function compress(count, last,  i, r, o) {
  for (i = 0; i < 64; i++) V[i] = H[i]
  for (i = 0; i < 8; i++) load(64 + 8 * i, IV[i + 1])
  for (i = 96; i < 102; i++) {
    V[i] = X[V[i] * 256 + count % 256]
    count = int(count / 256)
  }
  if (last) for (i = 112; i < 120; i++) V[i] = 255 - V[i]
  for (r = 0; r < 12; r++) {
    for (i = 0; i < 16; i++) o[i] = 8 * D[substr(S[r % 10 + 1], i + 1, 1)]
    for (i = 0; i < 4; i++) mix(8 * i, 32 + 8 * i, 64 + 8 * i, 96 + 8 * i, o[2 * i], o[2 * i + 1])
    for (i = 0; i < 4; i++)
      mix(8 * i, 32 + 8 * ((i + 1) % 4), 64 + 8 * ((i + 2) % 4), 96 + 8 * ((i + 3) % 4), o[8 + 2 * i], o[9 + 2 * i])
  }
  for (i = 0; i < 64; i++) H[i] = X[H[i] * 256 + X[V[i] * 256 + V[64 + i]]]
}
BEGIN {
  for (i = 0; i < 16; i++) D[substr("0123456789abcdef", i + 1, 1)] = i
  # X[256 a + b] is a xor b, of half-bytes first.
  for (i = 0; i < 256; i++) for (j = 0; j < 256; j++) {
    if (i < 16 && j < 16) {
      x = 0
      for (p = 1; p < 16; p *= 2) if (int(i / p) % 2 != int(j / p) % 2) x += p
    } else x = X[int(i / 16) * 256 + int(j / 16)] * 16 + X[i % 16 * 256 + j % 16]
    X[i * 256 + j] = x
  }
  split("6a09e667f3bcc908 bb67ae8584caa73b 3c6ef372fe94f82b a54ff53a5f1d36f1" \
    " 510e527fade682d1 9b05688c2b3e6c1f 1f83d9abfb41bd6b 5be0cd19137e2179", IV, " ")
  split("0123456789abcdef ea489fd61c02b753 b8c052fdae367194 7931dcbe265a40f8 905724afe1bc683d" \
    " 2c6a0b834d75fe19 c51fed4a0763928b db7ec13950f4862a 6fe9b308c2d714a5 a2847615fb9e3cd0", S, " ")
  for (i = 0; i < 8; i++) {
    load(0, IV[i + 1])
    for (j = 0; j < 8; j++) H[8 * i + j] = V[j]
  }
  # The parameters: 64 bytes of result, no key, one node.
  H[0] = X[H[0] * 256 + 64]
  H[2] = X[H[2] * 256 + 1]
  H[3] = X[H[3] * 256 + 1]
  n = count = 0
}
{
  for (f = 1; f <= NF; f++) {
    if (n == 128) {
      compress(count, 0)
      n = 0
    }
    M[n++] = $f
    count++
  }
}
END {
  while (n < 128) M[n++] = 0
  compress(count, 1)
  for (i = 0; i < 64; i++) printf "%02x", H[i]
}'
}

# is_signed KEY SIGNATURE MESSAGE, all hex: whether the Ed25519 signature is good. Where openssl does not say yes, also
# because it is older than 3.0, LibreSSL or not there, awk has the last word: every machine can verify.
is_signed() {
  if has openssl; then
    bytes "302a300506032b6570032100$1" >"$work/key.der"
    bytes "$2" >"$work/signature"
    bytes "$3" >"$work/message"
    if openssl pkeyutl -verify -pubin -keyform DER -inkey "$work/key.der" -rawin -in "$work/message" \
      -sigfile "$work/signature" >/dev/null 2>&1; then
      return 0
    fi
  fi
  # Of a signature the first half goes into the hash, with the key and the message.
  hash=$(bytes "$(printf %.64s "$2")$1$3" | sha 512)
  ed25519 "$1" "$2" "$hash"
}

# Ed25519 (RFC 8032, section 5.1.7) in integers that every awk has. All of it is public, so time may tell what it likes.
ed25519() {
  awk -v key="$1" -v sig="$2" -v hash="$3" '
# A register r is V[r] to V[r + 14]: 15 limbs of 17 bits, modulo p = 2^255 - 19.
function fit(r,  i, c, k) {
  for (k = 0; k < 2; k++) {
    c = 0
    for (i = r; i < r + 15; i++) {
      c += V[i]
      V[i] = c % 131072
      c = int(c / 131072)
    }
    V[r] += 19 * c
  }
}
function copy(r, a,  i) { for (i = 0; i < 15; i++) V[r + i] = V[a + i] }
function add(r, a, b,  i) {
  for (i = 0; i < 15; i++) V[r + i] = V[a + i] + V[b + i]
  fit(r)
}
# 4 p are added, so that no limb is below zero.
function less(r, a, b,  i) {
  for (i = 0; i < 15; i++) V[r + i] = V[a + i] - V[b + i] + (i ? 524284 : 524212)
  fit(r)
}
function mul(r, a, b,  i, j, s, w) {
  for (i = 0; i < 15; i++) {
    L[i] = V[a + i]
    R[i + 15] = V[b + i]
    R[i] = 19 * V[b + i]
  }
  for (i = 0; i < 15; i++) {
    s = 0
    w = i + 15
    for (j = 0; j < 15; j++) s += L[j] * R[w - j]
    V[r + i] = s
  }
  fit(r)
}
# To a power of n bits that are all 1 but those named.
function pow(r, a, n, zeros) {
  copy(r, a)
  for (n -= 2; n >= 0; n--) {
    mul(r, r, r)
    if (!index(zeros, " " n " ")) mul(r, r, a)
  }
}
# Bit n of bytes in hex, the low byte first.
function bit(hex, n) { return int(D[substr(hex, 2 * int(n / 8) + (n % 8 < 4 ? 2 : 1), 1)] / P2[n % 4]) % 2 }
function load(r, hex,  i, n) {
  for (i = 0; i < 15; i++) V[r + i] = 0
  for (n = 0; n < 255; n++) if (bit(hex, n)) V[r + int(n / 17)] += P2[n % 17]
}
function limbs(r,  i, s) {
  for (i = 0; i < 15; i++) s = s " " V[r + i]
  return s
}
# The one form below p: p is taken off by adding 19 and dropping bit 255.
function plain(r,  i, c) {
  copy(OWN, r)
  fit(OWN)
  fit(OWN)
  c = 19
  for (i = 0; i < 15; i++) c = int((c + V[OWN + i]) / 131072)
  c *= 19
  for (i = 0; i < 15; i++) {
    c += V[OWN + i]
    V[OWN + i] = c % 131072
    c = int(c / 131072)
  }
  return limbs(OWN)
}
function odd(r) {
  plain(r)
  return V[OWN] % 2
}
# A point p is the registers p, p + 16, p + 32 and p + 48: X, Y, Z and T. The letters are those of section 5.1.4.
function join(r, p, q) {
  less(A, p + 16, p); less(B, q + 16, q); mul(A, A, B)
  add(B, p + 16, p); add(C, q + 16, q); mul(B, B, C)
  mul(C, p + 48, q + 48); mul(C, C, TWICE_D)
  mul(E, p + 32, q + 32); add(E, E, E)
  less(F, E, C); add(G, E, C); less(E, B, A); add(H, B, A)
  finish(r)
}
function double(r) {
  add(E, r, r + 16); mul(E, E, E)
  mul(A, r, r); mul(B, r + 16, r + 16)
  mul(C, r + 32, r + 32); add(C, C, C)
  add(H, A, B); less(E, H, E); less(G, A, B); add(F, C, G)
  finish(r)
}
function finish(r) { mul(r, E, F); mul(r + 16, G, H); mul(r + 48, E, H); mul(r + 32, F, G) }
function zeros(n,  s) {
  while (length(s) < n) s = s "0"
  return s
}
# The bits of a hash modulo the order of the group, low one first, in K.
function reduce(hex,  n, i, c, o) {
  for (i = 0; i < 254; i++) {
    K[i] = 0
    o[i] = bit(ORDER, i)
  }
  for (n = 511; n >= 0; n--) {
    for (i = 253; i > 0; i--) K[i] = K[i - 1]
    K[0] = bit(hex, n)
    for (i = 253; i >= 0 && K[i] == o[i]; ) i--
    if (i >= 0 && K[i] < o[i]) continue
    for (i = c = 0; i < 254; i++) {
      c = K[i] - o[i] - c
      K[i] = c < 0 ? c + 2 : c
      c = c < 0
    }
  }
}
BEGIN {
  if (length(key) != 64 || length(sig) != 128 || length(hash) != 128) exit 1
  for (i = 0; i < 16; i++) D[substr("0123456789abcdef", i + 1, 1)] = i
  P2[0] = 1
  for (i = 1; i < 17; i++) P2[i] = 2 * P2[i - 1]
  ONE = 0; ZERO = 16; OWN = 32; A = 48; B = 64; C = 80; E = 96; F = 112; G = 128; H = 144
  CURVE_D = 160; TWICE_D = 176; ROOT = 192; KEY = 256; BASE = 320; BOTH = 384; SUM = 448
  load(ONE, "01" zeros(62))
  load(ZERO, zeros(64))
  load(CURVE_D, "a3785913ca4deb75abd841414d0a700098e879777940c78c73fe6f2bee6c0352")
  add(TWICE_D, CURVE_D, CURVE_D)
  load(ROOT, "b0a00e4a271beec478e42fad0618432fa7d7fb3d99004d2b0bdfc14f8024832b")
  load(BASE, "1ad5258f602d56c9b2a7259560c72c695cdcd6fd31e2a4c0fe536ecdd3366921")
  load(BASE + 16, "5866666666666666666666666666666666666666666666666666666666666666")
  copy(BASE + 32, ONE)
  mul(BASE + 48, BASE, BASE + 16)
  ORDER = "edd3f55c1a631258d69cf7a2def9de14" zeros(30) "10"

  # S is below the order, or there would be two signatures of one message.
  s = substr(sig, 65)
  for (n = 255; n >= 0 && bit(s, n) == bit(ORDER, n); ) n--
  if (n < 0 || bit(s, n)) exit 1

  # The key as a point (section 5.1.3): x^2 = u / v with u = y^2 - 1 and v = d y^2 + 1.
  load(KEY + 16, key)
  mul(A, KEY + 16, KEY + 16); mul(B, A, CURVE_D); less(A, A, ONE); add(B, B, ONE)
  mul(C, B, B); mul(C, C, B); mul(E, C, C); mul(E, E, B); mul(E, E, A)
  pow(F, E, 252, " 1 "); mul(F, F, C); mul(F, F, A)
  mul(G, F, F); mul(G, G, B); less(H, ZERO, A)
  if (plain(G) == plain(H)) mul(F, F, ROOT)
  else if (plain(G) != plain(A)) exit 1
  # Its negative, because R = S B - h A.
  if (odd(F) == bit(key, 255)) less(F, ZERO, F)
  copy(KEY, F)
  copy(KEY + 32, ONE)
  mul(KEY + 48, KEY, KEY + 16)
  join(BOTH, BASE, KEY)

  copy(SUM, ZERO)
  copy(SUM + 16, ONE)
  copy(SUM + 32, ONE)
  copy(SUM + 48, ZERO)
  reduce(hash)
  for (n = 252; n >= 0; n--) {
    double(SUM)
    if (bit(s, n) && K[n]) join(SUM, SUM, BOTH)
    else if (bit(s, n)) join(SUM, SUM, BASE)
    else if (K[n]) join(SUM, SUM, KEY)
  }
  pow(ROOT, SUM + 32, 255, " 4 2 ")
  mul(SUM, SUM, ROOT)
  mul(SUM + 16, SUM + 16, ROOT)
  load(A, sig)
  exit !(plain(SUM + 16) == limbs(A) && odd(SUM) == bit(sig, 255))
}'
}

# verify FILE SIGNATURE: sets comment to what the signature says it is of; ends the script unless a trusted key made it.
verify() {
  what=$3
  one_of="It has to be signed with one of:$keys"
  first=$(sed -n '2p' "$2" | tr -d '\r')
  comment=$(sed -n '3s/^trusted comment: //p' "$2" | tr -d '\r')
  second=$(sed -n '4p' "$2" | tr -d '\r')
  head=$(hex_of_base64 "$first") || head=
  # "ED" in front: the signature is of the BLAKE2b of the file.
  case ${#head}:$head in
    148:4544*) ;;
    *) die "the signature of $what is no minisign signature; nothing was installed" ;;
  esac
  id=$(say "$head" | cut -c 5-20)
  signature=$(say "$head" | cut -c 21-148)
  public=
  for key in $keys; do
    bare=$(hex_of_base64 "$key") || bare=
    case ${#bare}:$bare in
      84:4564*) ;;
      *) die "\"$key\" is not a minisign public key" ;;
    esac
    [ "$(say "$bare" | cut -c 5-20)" != "$id" ] || public=$(say "$bare" | cut -c 21-84)
  done
  [ -n "$public" ] || die "$what is signed with a key that is not trusted; nothing was installed" "$one_of"
  seal=$(hex_of_base64 "$second") || seal=
  printf %s "$comment" >"$work/comment"
  if ! is_signed "$public" "$signature" "$(blake2b "$1")" ||
    ! is_signed "$public" "$seal" "$signature$(hex_of_file "$work/comment")"; then
    die "$what does not fit its signature: it was changed, or damaged on the way; nothing was installed" "$one_of"
  fi
}

# Sets version, name and sum: which file of the release is wanted, and its SHA-256. Nothing unsigned is believed.
read_release() {
  make_work
  sums=$work/SHA256SUMS
  name=SHA256SUMS
  # A bundle is of one version.
  [ -z "$wanted" ] || [ -n "$offline" ] || name=culvert-$wanted-SHA256SUMS
  obtain_small "$name" "$sums" || die "\"$offline\" is no bundle of culvert's" "Make one with: culvert bundle"
  keys=$(printf '%s' "$keys" | tr -s ' \n' '  ')
  if [ "$unsigned" = yes ]; then
    warn "warning: the signature is not looked at: whoever can change the release can run what they like here"
    version=$(sed -n "s/^[0-9a-f]* [ *]culvert-\(.*\)-$build\$/\1/p" "$sums" | head -n 1)
    [ -n "$version" ] || no_build "this release"
  else
    [ -n "${keys# }" ] || die "there is no key to verify a release with" \
      "Give the minisign public key of whoever makes your releases: --key KEY." \
      "A release that nobody has signed is only taken with --insecure-no-signature."
    obtain_small "$name.minisig" "$sums.minisig" ||
      die "nobody has signed this bundle" "It is only taken with --insecure-no-signature."
    verify "$sums" "$sums.minisig" "$name"
    version=${comment#culvert }
    version=${version% sums}
    [ "$comment" = "culvert $version sums" ] || die "$name is signed as something else: \"$comment\""
  fi
  case $version in
    '' | *[!0-9A-Za-z.-]*) die "$name is of no version" ;;
  esac
  [ -z "$wanted" ] || [ "$wanted" = "$version" ] || die "$name is of version $version, not $wanted"
  name=culvert-$version-$build
  sum=$(awk -v name="$name" '$2 == name || $2 == "*" name { print $1; exit }' "$sums")
  [ -n "$sum" ] || no_build "version $version"
  say "$sum" | grep -Eqx '[0-9a-f]{64}' || die "SHA256SUMS holds no SHA-256 of $name"
}

no_build() {
  die "$1 has no binary for this machine ($build)" \
    "It has: $(sed -n 's/^[0-9a-f]* [ *]culvert-.*-\(\(linux\|darwin\|windows\)-[a-z0-9-]*\)\(\.exe\)\{0,1\}$/\1/p' "$sums" | tr '\n' ' ')"
}

# has_sum FILE
has_sum() { [ -f "$1" ] && [ "$(sha 256 <"$1")" = "$sum" ]; }

# order A B: prints -1, 0 or 1 (semver, section 11).
order() {
  awk -v a="$1" -v b="$2" 'BEGIN {
    i = index(a, "-"); x = i ? substr(a, i + 1) : ""; if (i) a = substr(a, 1, i - 1)
    i = index(b, "-"); y = i ? substr(b, i + 1) : ""; if (i) b = substr(b, 1, i - 1)
    split(a, p, "."); split(b, q, ".")
    for (i = 1; i <= 3; i++) if (p[i] + 0 != q[i] + 0) { print (p[i] + 0 < q[i] + 0 ? -1 : 1); exit }
    if (x == y) { print 0; exit }
    if (x == "" || y == "") { print (x == "" ? 1 : -1); exit }
    n = split(x, p, "."); m = split(y, q, ".")
    for (i = 1; i <= n && i <= m; i++) {
      if (p[i] "" == q[i] "") continue
      u = p[i] ~ /^[0-9]+$/; v = q[i] ~ /^[0-9]+$/
      if (u && v) print (p[i] + 0 < q[i] + 0 ? -1 : 1)
      else if (u != v) print (u ? -1 : 1)
      else print (p[i] "" < q[i] "" ? -1 : 1)
      exit
    }
    print (n < m ? -1 : 1)
  }'
}

# --- installing -----------------------------------------------------------------------------------------------------

install() {
  find_source
  refuse_foreign_target
  before=$(installed_version)
  if [ -z "$binary" ]; then
    find_build
    read_release
    if has_sum "$target" && [ -x "$target" ]; then
      say "culvert $version is installed already: $target"
      changed=no
      finish_install
      return
    fi
    refuse_downgrade
    if [ "$dry_run" = yes ]; then
      say "would install culvert $version ($build) as $target${before:+ in place of $before}"
      finish_install
      return
    fi
  elif [ "$dry_run" = yes ]; then
    say "would install $binary as $target"
    finish_install
    return
  fi
  changed=no
  place
  finish_install
}

# A binary to take as it is, a bundle, a server, or else the checkout that this script lies in.
find_source() {
  if [ -n "$binary" ]; then
    [ -f "$binary" ] || die "there is no file \"$binary\""
    sum=$(printf %s "$sha256" | tr 'A-F' 'a-f')
    [ -z "$sum" ] || has_sum "$binary" ||
      die "SHA-256 of \"$binary\" is $(sha 256 <"$binary"), not $sum; nothing was installed"
  elif [ -n "$offline" ]; then
    [ -e "$offline" ] || die "there is no bundle \"$offline\""
  elif [ -z "$base_url" ]; then
    # A script that is piped into a shell lies nowhere, and whatever is around then is not asked to build anything.
    checkout=
    case $FROM_CHECKOUT:$0 in yes:install.sh | yes:*/install.sh) checkout=$(cd "$(dirname "$0")" && pwd) ;; esac
    if [ -z "$checkout" ] || [ ! -x "$checkout/scripts/build" ] ||
      ! grep -q '"name": "culvert"' "$checkout/package.json" 2>/dev/null; then
      die "there is no place to install from" \
        "Name an edge with --base-url https://edge.example.com, a bundle with --offline BUNDLE," \
        "or give the binary with --binary PATH."
    fi
    [ -z "$wanted" ] || die "--version needs a place to download from: --base-url"
    refuse_foreign_checkout
    binary=$checkout/dist/culvert
    sum=
    if [ "$dry_run" = yes ]; then
      say "would build $binary with $checkout/scripts/build"
    else
      say "building $binary"
      "$checkout/scripts/build" </dev/null
    fi
  fi
}

# Building runs what is in there: nobody but root and the caller may have had a hand in it.
refuse_foreign_checkout() {
  caller=$(id -u)
  case ${SUDO_UID:-} in
    '' | *[!0-9]*) ;;
    *) [ "$is_root" = no ] || caller=$SUDO_UID ;;
  esac
  foreign=$(find "$checkout" ! -type l \( -perm -002 -o ! -user 0 ! -user "$caller" \) -print 2>&1 | head -n 1)
  [ -z "$foreign" ] || die "nothing is built in $checkout: others than you and root may write to $foreign" \
    "Where you trust what is in there, take it over: chown -R, and chmod -R go-w."
  [ "$is_root" = yes ] || return 0
  foreign=$(find "$checkout" ! -type l -perm -020 ! -group 0 -print 2>&1 | head -n 1)
  # A clone made with umask 002: that group may have no other member, which no two systems tell in the same way.
  [ -z "$foreign" ] || die "nothing is built in $checkout: whoever is in its group may write to $foreign" \
    "Where you trust what is in there: sudo chmod -R g-w '$checkout'"
}

refuse_foreign_target() {
  if [ -h "$target" ]; then
    die "$target is a link to $(readlink "$target")" "Remove it, or install beside it with --dir DIR."
  fi
  [ ! -d "$target" ] || die "$target is a folder" "Remove it, or give --dir DIR."
  manager=$(dirname "$dir")/lib/culvert/package-manager
  if [ -e "$target" ] && [ -r "$manager" ]; then
    die "a package manager ($(head -c 32 "$manager")) has installed $target" "Update it with that, or give --dir DIR."
  fi
}

# The version that is there; empty when none is, or none that runs.
installed_version() {
  [ -f "$target" ] && [ -x "$target" ] || return 0
  env -i "$target" --version </dev/null 2>/dev/null | sed -n '1s/^culvert version \([0-9][0-9A-Za-z.-]*\).*/\1/p' || true
}

refuse_downgrade() {
  [ -n "$before" ] && [ "$(order "$version" "$before")" = -1 ] || return 0
  [ "$assume_yes" = no ] || return 0
  if [ "$dry_run" = yes ]; then
    say "would ask whether to replace culvert $before by the older $version"
    return 0
  fi
  # Standard input may be this script.
  answer=
  if (: </dev/tty >/dev/tty) 2>/dev/null; then
    printf 'culvert %s is installed. Replace it by the older %s? [y/N] ' "$before" "$version" >/dev/tty
    read -r answer </dev/tty || answer=
  fi
  case $answer in
    y | Y | yes) ;;
    *) die "culvert $version is older than $before, which is installed; nothing was changed" "--yes takes it all the same." ;;
  esac
}

# Puts the new version in place; until the last step, which is a rename, the old one stays as it was.
place() {
  make_work
  mkdir -p "$dir" 2>"$work/error" || cannot_write
  take_lock
  # Another one may have had the lock until now.
  seen=$before
  before=$(installed_version)
  if [ -z "$binary" ] && has_sum "$target" && [ -x "$target" ]; then
    rm -f "$lock"
    lock=
    say "culvert $version is installed already: $target"
    return
  fi
  if [ -z "$binary" ] && [ "$before" != "$seen" ]; then refuse_downgrade; fi
  if [ -n "$binary" ]; then
    new=$dir/.culvert.$$.new
    cp "$binary" "$new" 2>"$work/error" || copy_failed "$binary"
    [ -z "$sum" ] || has_sum "$new" || { rm -f "$new"; die "\"$binary\" changed while it was copied"; }
  else
    # Named as `culvert update` names it: either goes on with what the other has begun.
    new=$dir/.culvert.$(printf %.16s "$sum").new
    has_sum "$new" || obtain_binary
  fi
  chmod 755 "$new"
  said=$(run_version "$new") || { rm -f "$new"; exit 1; }
  if [ -n "$binary" ]; then
    version=$(say "$said" | sed -n '1s/^culvert version \([0-9][0-9A-Za-z.-]*\).*/\1/p')
    if [ -n "$version" ]; then (refuse_downgrade) || { rm -f "$new"; exit 1; }; fi
  fi
  sync "$new" 2>/dev/null || true
  keep_previous
  mv -f "$new" "$target" || { rm -f "$new"; die "cannot put the binary in place as \"$target\""; }
  label
  changed=yes
  rm -f "$lock"
  lock=
  say "installed $target: $said"
}

# cannot_write: of what the system said about the folder, what to do.
cannot_write() {
  said=$(cat "$work/error")
  ! is_full "$dir" || no_space "$dir"
  case $said in
    *[Rr]ead-only*) die "$dir is on a file system that is read-only" \
      "Give another folder with --dir DIR, such as --dir /opt/culvert/bin, or --user for this account alone." ;;
    *[Nn]o\ space*) no_space "$dir" ;;
    *[Pp]ermission*) die "cannot write to $dir: permission denied" \
      "Run it as root (sudo), or install for this account alone with --user." ;;
    *) die "cannot write to $dir: ${said##*: }" "Give another folder with --dir DIR." ;;
  esac
}

copy_failed() {
  rm -f "$new"
  case $(cat "$work/error") in
    *[Nn]o\ space*) no_space "$dir" ;;
  esac
  ! is_full "$dir" || no_space "$dir"
  die "cannot copy \"$1\" to $dir: $(cat "$work/error")"
}

# The same lock as of `culvert update`: a file with the process that has it.
take_lock() {
  mark=$dir/.culvert.update
  for try in 1 2; do
    if (set -C && say $$ >"$mark") 2>"$work/error"; then
      lock=$mark
      return
    fi
    judged=$(cat "$mark" 2>/dev/null || true)
    if [ -z "$judged" ] && [ -e "$mark" ]; then
      # Who has just made it is about to write its number.
      sleep 1
      judged=$(cat "$mark" 2>/dev/null || true)
    fi
    if [ ! -e "$mark" ]; then
      # It may have gone just now.
      if [ "$try" = 1 ]; then continue; else cannot_write; fi
    fi
    holder=$(say "$judged" | tr -dc 0-9)
    if [ "$try" = 2 ] || { [ -n "$holder" ] && { kill -0 "$holder" 2>/dev/null || [ -d "/proc/$holder" ]; }; }; then
      die "another installation or update of $target is already running (process $holder)" \
        "Wait for it. When there is none, remove $mark."
    fi
    # Its process was killed.
    remove_mark
  done
}

# Moved aside first: another process may have put its own in the place of the one that was judged.
remove_mark() {
  mv -f "$mark" "$mark.$$" 2>"$work/error" || {
    [ ! -e "$mark" ] || cannot_write
    return 0
  }
  [ "$(cat "$mark.$$")" = "$judged" ] || ln "$mark.$$" "$mark" 2>/dev/null || true
  rm -f "$mark.$$"
}

obtain_binary() {
  # Of other versions that were given up.
  for old in "$dir"/.culvert.????????????????.new; do [ "$old" = "$new" ] || rm -f "$old"; done
  if [ -n "$offline" ]; then
    # A bundle holds the same bytes once, under the name that stands first in the sums.
    awk -v sum="$sum" '$1 == sum { sub(/^\*/, "", $2); print $2 }' "$sums" >"$work/names"
    while IFS= read -r entry; do
      if bundled "$entry" "$new" 2>"$work/error"; then break; fi
      if is_full "$dir"; then
        rm -f "$new"
        no_space "$dir"
      fi
      rm -f "$new"
    done <"$work/names"
    [ -f "$new" ] || die "the bundle \"$offline\" has no binary for this machine ($build)" \
      "Make one that has: culvert bundle --from PLACE --target $build"
    has_sum "$new" || refuse_sum
    return
  fi
  say "downloading culvert $version ($build) from $(without_login "$base_url")"
  begun=$(size_of "$new")
  download "$name" "$new" "$MAX_BINARY_BLOCKS"
  if ! has_sum "$new" && [ "$begun" -gt 0 ]; then
    # What lay there may have been of something else.
    rm -f "$new"
    download "$name" "$new" "$MAX_BINARY_BLOCKS"
  fi
  has_sum "$new" || refuse_sum
}

refuse_sum() {
  got=$(sha 256 <"$new")
  rm -f "$new"
  die "$name has the wrong checksum; nothing was installed" "SHA256SUMS says $sum" "what came has  $got"
}

# For `culvert update --rollback`. What does not run is nothing to go back to.
keep_previous() {
  [ -n "$before" ] || return 0
  rm -f "$target.previous.tmp"
  ln "$target" "$target.previous.tmp" 2>/dev/null || cp -p "$target" "$target.previous.tmp" 2>"$work/error" || {
    rm -f "$new" "$target.previous.tmp"
    copy_failed "$target"
  }
  mv -f "$target.previous.tmp" "$target.previous"
}

# The label that says what may run it, where SELinux is on.
label() {
  has selinuxenabled && selinuxenabled || return 0
  if ! has restorecon || ! restorecon -F "$target" 2>"$work/error"; then
    warn "warning: SELinux is on, and $target could not be given its label: a service may not be allowed to run it"
    warn "  Try: restorecon -v $target, or outside of bin folders: chcon -t bin_t $target"
  fi
}

# run_version FILE: what it answers to --version, from an empty environment as a service has.
run_version() {
  code=0
  answer=$(env -i "$1" --version </dev/null 2>&1) || code=$?
  if [ "$code" = 0 ] && [ -n "$answer" ]; then
    printf '%s' "$answer"
    return
  fi
  hint="The version before, if there was one, is still in place."
  # The errors of the system do not say which.
  if [ "$code" = 126 ] || [ "$code" = 127 ]; then
    if [ -n "$(mounted_noexec)" ]; then
      hint="$(mounted_noexec) is mounted noexec: give another folder with --dir DIR."
    elif has getenforce && [ "$(getenforce 2>/dev/null)" = Enforcing ]; then
      hint="SELinux may forbid it: see ausearch -m avc -ts recent, or install to /usr/local/bin."
    elif ls /lib/ld-musl-* >/dev/null 2>&1; then
      hint="On Alpine use the musl build and install libstdc++: apk add libstdc++"
    fi
  fi
  die "\"${binary:-$name}\" does not run on this machine ($(uname -sm)): ${answer:-it ended with $code}" "$hint"
}

# The mount point of the folder when no program may be run from there.
mounted_noexec() {
  [ -r /proc/mounts ] || return 0
  point=$(df -P "$dir" 2>/dev/null | awk 'NR > 1 { print $6; exit }')
  awk -v point="$point" '$2 == point { options = $4 } END { if (("," options ",") ~ /,noexec,/) print point }' /proc/mounts
}

finish_install() {
  if [ "$dry_run" = yes ]; then
    [ -z "$token$token_file" ] || say "would install the service"
    return 0
  fi
  served=yes
  install_service || served=no
  if [ "$services" = yes ] && [ "$changed" = yes ]; then restart_services || served=no; fi
  note_old_processes
  case :${PATH:-}: in
    *:"$dir":*)
      first=$(command -v culvert 2>/dev/null || true)
      [ -z "$first" ] || [ "$first" = "$target" ] || say "note: $first comes before it in your PATH"
      ;;
    *) say "note: $dir is not in your PATH; to have it there: export PATH=\"$dir:\$PATH\"" ;;
  esac
  [ "$served" = yes ] || die "culvert is installed, but its service is not as it should be"
}

install_service() {
  if [ -n "$token_file" ]; then
    "$target" service install --token-file "$token_file" </dev/null
  elif [ -n "$token" ]; then
    # Through a pipe from this very shell: no process has it on its command line.
    printf '%s\n' "$token" | "$target" service install --token-file -
  fi
}

# Each service as the words that name it to `culvert service`; the first is the tunnel's that has no name.
each_service() {
  say ""
  say "--edge"
  for folder in /etc/culvert /usr/local/etc/culvert "/Library/Application Support/culvert" \
    "${HOME:-/nonexistent}/.config/culvert" "${HOME:-/nonexistent}/Library/Application Support/culvert"; do
    for own in "$folder"/tunnels/*/; do
      [ ! -d "$own" ] || say "--name $(basename "$own")"
    done
  done
}

# runs_here WORDS: whether that service runs, and a program of this folder at that. Sets code to what its status was.
runs_here() {
  code=0
  # shellcheck disable=SC2086 # words on purpose
  shown=$("$target" service status --json $1 </dev/null 2>/dev/null) || code=$?
  pid=$(say "$shown" | sed -n 's/.*"pid":\([0-9]*\).*/\1/p')
  [ "$code" = 0 ] && [ -n "$pid" ] || return 1
  program=$(readlink "/proc/$pid/exe" 2>/dev/null || ps -o comm= -p "$pid" 2>/dev/null || true)
  case $program in
    "$target" | "$target (deleted)" | "$target.previous") return 0 ;;
    *) return 1 ;;
  esac
}

# Installing a service again with nothing new has it run the program that is there now.
restart_services() {
  failed=0
  each_service >"$work/services"
  while IFS= read -r words; do
    runs_here "$words" || continue
    # shellcheck disable=SC2086 # words on purpose
    "$target" service install $words </dev/null || failed=1
  done <"$work/services"
  return "$failed"
}

note_old_processes() {
  for exe in /proc/[0-9]*/exe; do
    case $(readlink "$exe" 2>/dev/null || true) in
      "$target (deleted)" | "$target.previous")
        pid=${exe#/proc/}
        say "note: process ${pid%/exe} runs the version before until it is restarted"
        ;;
    esac
  done
}

# --- removing -------------------------------------------------------------------------------------------------------

uninstall() {
  refuse_foreign_target
  if [ ! -e "$target" ]; then
    [ "$purge" = no ] ||
      die "there is no $target, which removes configuration and tokens" "Install it again first, or remove them by hand."
    [ "$dry_run" = yes ] || remove_leftovers
    say "nothing to remove: there is no $target"
    return
  fi
  [ -w "$dir" ] || die "cannot remove \"$target\": permission denied" "Run it as root (sudo)."
  make_work
  [ "$services" = no ] || uninstall_services
  if [ "$dry_run" = yes ]; then
    say "would remove $target"
    return
  fi
  take_lock
  rm -f "$target" 2>"$work/error" || cannot_write
  remove_leftovers
  if [ "$purge" = yes ]; then remove_empty; fi
  say "removed $target"
}

remove_leftovers() {
  rm -f "$target.previous" "$target.previous.tmp" "$dir"/.culvert.????????????????.new "$dir"/.culvert.[0-9]*.new \
    "$dir/.culvert.rejected" "$dir/.culvert.rejected.tmp" "$dir/.culvert.trial" "$dir/.culvert.lock" "$dir"/.culvert.update.[0-9]*
}

# Folders of an account that had none before; what is not empty stays.
remove_empty() {
  [ "$dir" = "${HOME:-}/.local/bin" ] || return 0
  rm -f "$lock"
  lock=
  rmdir "$dir" "$HOME/.local" 2>/dev/null || true
}

# owner_of WORDS: sets owner to whose program the service is to run: none, this, other, unknown; empty = no services here.
owner_of() {
  code=0
  # shellcheck disable=SC2086 # words on purpose
  shown=$("$target" service status --json $1 </dev/null 2>/dev/null) || code=$?
  # A path with an escape in it is none that is known here.
  program=$(say "$shown" | sed -n 's/.*"program":"\([^"\\]*\)".*/\1/p')
  case $code:$program in
    0: | 3:) owner=unknown ;;
    4:*) owner=none ;;
    [03]:"$target" | [03]:"$(cd "$dir" && pwd -P)/culvert") owner=this ;;
    [03]:*) owner=other ;;
    *) owner= ;;
  esac
}

uninstall_services() {
  each_service >"$work/services"
  set --
  [ "$purge" = no ] || set -- "$@" --purge
  [ "$dry_run" = no ] || set -- "$@" --dry-run
  others=$(other_program)
  : >"$work/ownerless"
  while IFS= read -r words; do
    owner_of "$words"
    case $owner in
      this) uninstall_service "$words" "$@" ;;
      none) say "$words" >>"$work/ownerless" ;;
      other)
        others=$program
        say "left alone: service culvert${words:+ $words} runs $program"
        ;;
      unknown)
        others=unknown
        warn "warning: left alone: $target does not say which program service culvert${words:+ $words} runs"
        warn "  Where it is this one: culvert service uninstall${words:+ $words}"
        ;;
    esac
  done <"$work/services"
  [ "$purge" = yes ] || return 0
  # What no service needs may be the other installation's.
  if [ -n "$others" ]; then
    say "kept: configuration, tokens and state without a service, because another culvert is installed ($others)"
    return 0
  fi
  while IFS= read -r words; do uninstall_service "$words" "$@"; done <"$work/ownerless"
}

# uninstall_service WORDS OPTION...
uninstall_service() {
  service=$1
  shift
  # shellcheck disable=SC2086 # words on purpose
  "$target" service uninstall $service "$@" </dev/null ||
    die "cannot remove the service of $target; nothing else was removed" "--no-service leaves it alone."
}

# Prints another culvert that may share this one's configuration.
other_program() {
  if [ "$is_root" = yes ]; then
    set -- /usr/bin/culvert /usr/local/bin/culvert
  else
    set -- "${HOME:-/nonexistent}/.local/bin/culvert" "${HOME:-/nonexistent}/bin/culvert"
  fi
  real=$(cd "$dir" && pwd -P)
  for one; do
    [ ! -f "$one" ] || [ "$(cd "$(dirname "$one")" && pwd -P)" = "$real" ] || say "$one"
  done | head -n 1
}

# In braces, or a cut between the two words would be a call without arguments.
{ main "$@"; }
