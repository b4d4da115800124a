# Services that `culvert service install` made of this package's program, for the scripts of deb and rpm.
PROGRAM=/usr/bin/culvert

# Names of systemd units, one a line; of a template, its instances.
culvert_units() {
  [ -d /run/systemd/system ] || return 0
  systemctl list-units --all --plain --no-legend 'culvert.service' 'culvert@*.service' 'culvert-edge.service' |
    while read -r unit _; do
      if systemctl show "$unit" --property=ExecStart | grep -q "path=$PROGRAM "; then echo "$unit"; fi
    done
}

# Tunnels make way for the new program without an end of service; an edge restarts.
culvert_take_over() {
  for unit in $(culvert_units); do
    case $unit in
    culvert-edge.service) systemctl try-restart "$unit" || true ;;
    *) systemctl kill --kill-who=main --signal=USR2 "$unit" || true ;;
    esac
  done
}

# Without the program they could only fail.
culvert_stop() {
  for unit in $(culvert_units); do systemctl disable --now "$unit" || true; done
  for script in /etc/init.d/culvert /etc/init.d/culvert-*; do
    if [ -x "$script" ] && grep -q "$PROGRAM" "$script"; then "$script" stop || true; fi
  done
}
