#!/bin/sh
# Installs the culvert binary for this machine: builds it from this checkout, or takes a binary you have. It downloads
# nothing itself, sets up no service, and touches one file: DIR/culvert. `sh install.sh --help` shows the options.
#
# Everything is a function and the last line calls main, so that a script cut off on its way does nothing.

set -eu

usage() {
  cat <<'END'
usage: install.sh [options]

  --binary PATH    install this file instead of building from the checkout
  --sha256 HEX     refuse the binary unless its SHA-256 is this
  --dir DIR        install to DIR/culvert; default /usr/local/bin as root, else ~/.local/bin
  --uninstall      remove DIR/culvert
  --dry-run        say what would be done, and do nothing
  --help           show this
END
}

say() { printf '%s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

main() {
  binary=
  sha256=
  dir=
  dry_run=no
  action=install
  while [ $# -gt 0 ]; do
    case $1 in
      --binary | --sha256 | --dir)
        [ $# -gt 1 ] && [ -n "$2" ] || die "$1 needs a value"
        case $1 in
          --binary) binary=$2 ;;
          --sha256) sha256=$2 ;;
          --dir) dir=$2 ;;
        esac
        shift
        ;;
      --uninstall) action=uninstall ;;
      --dry-run) dry_run=yes ;;
      --help | -h)
        usage
        exit 0
        ;;
      *) die "unknown option \"$1\"; see --help" ;;
    esac
    shift
  done
  [ -n "$dir" ] || dir=$(default_dir)
  "$action"
}

default_dir() {
  if [ "$(id -u)" = 0 ]; then
    say /usr/local/bin
  else
    [ -n "${HOME:-}" ] || die "HOME is not set; give --dir"
    say "$HOME/.local/bin"
  fi
}

install() {
  if [ -z "$binary" ]; then
    checkout=$(cd "$(dirname "$0")" && pwd)
    [ -x "$checkout/scripts/build" ] || die "this is not a checkout of culvert; give the binary with --binary PATH"
    binary=$checkout/dist/culvert
    if [ "$dry_run" = yes ]; then
      say "would build $binary with $checkout/scripts/build"
    else
      say "building $binary"
      "$checkout/scripts/build"
    fi
  else
    [ -f "$binary" ] || die "there is no file \"$binary\""
    check_sum "$binary"
  fi
  if [ "$dry_run" = yes ]; then
    say "would install $binary as $dir/culvert"
    return
  fi

  mkdir -p "$dir" || die "cannot make the folder \"$dir\"; give another with --dir, or run as root"
  # In the target folder, so that the last step is a rename: no moment without a whole binary, even a running one.
  new=$(mktemp "$dir/.culvert.XXXXXX") || die "cannot write to \"$dir\"; give another with --dir, or run as root"
  trap 'rm -f "$new"' EXIT
  trap 'exit 1' HUP INT TERM
  cp "$binary" "$new" || die "cannot copy \"$binary\" to \"$dir\""
  check_sum "$new"
  chmod 755 "$new"
  version=$(run_version "$new")
  mv -f "$new" "$dir/culvert" || die "cannot put the binary in place as \"$dir/culvert\""
  trap - EXIT
  say "installed $dir/culvert: $version"
  case :${PATH:-}: in
    *:"$dir":*) ;;
    *) say "note: $dir is not in your PATH" ;;
  esac
}

uninstall() {
  if [ ! -e "$dir/culvert" ]; then
    say "nothing to remove: there is no $dir/culvert"
  elif [ "$dry_run" = yes ]; then
    say "would remove $dir/culvert"
  else
    rm -f "$dir/culvert" || die "cannot remove \"$dir/culvert\""
    say "removed $dir/culvert"
  fi
}

# check_sum FILE: ends the script when a sum was asked for and the file has another.
check_sum() {
  [ -n "$sha256" ] || return 0
  if command -v sha256sum >/dev/null; then
    actual=$(sha256sum <"$1")
  elif command -v shasum >/dev/null; then
    actual=$(shasum -a 256 <"$1")
  else
    die "cannot check the SHA-256: neither sha256sum nor shasum is installed"
  fi
  actual=${actual%% *}
  wanted=$(printf %s "$sha256" | tr 'A-F' 'a-f')
  [ "$actual" = "$wanted" ] || die "SHA-256 of \"$binary\" is $actual, not $wanted; nothing was installed"
}

# run_version FILE: what it answers to --version, from an empty environment as a service has.
run_version() {
  answer=$(env -i "$1" --version 2>&1) && [ -n "$answer" ] || {
    # One C library cannot load what was built for the other, and the error of the system does not say so.
    if ls /lib/ld-musl-* >/dev/null 2>&1; then
      hint="; on Alpine use the musl build and install libstdc++ (apk add libstdc++)"
    fi
    die "\"$binary\" does not run on this machine ($(uname -sm))${hint:-}: $answer"
  }
  printf '%s' "$answer"
}

main "$@"
