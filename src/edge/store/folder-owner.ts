import { type Stats, statSync } from "node:fs";
import { describe, systemCode, TunnelError } from "../../core/errors.ts";
import { readAnything } from "../../net/capabilities.ts";

/**
 * Does something in a folder that may be a service account's as that account, where root does it. The account may have put
 * links there: what they lead to is then written only where the account itself could have, and new files are the
 * account's, which has to use them. All of the process acts as the account meanwhile, so `work` waits for nothing. A folder
 * that is missing is whoever's makes it. Throws `store.failed` where root may not act as others.
 */
export function asOwnerOf<T>(folder: string, work: () => T): T {
  const { getuid, geteuid, getegid, getgroups, setgroups, setegid, seteuid } = process;
  if (getuid?.() !== 0 || geteuid?.() !== 0 || getegid === undefined || getgroups === undefined) return work();
  if (setgroups === undefined || setegid === undefined || seteuid === undefined) return work();
  const found = statsOf(folder);
  if (found === undefined || found.uid === 0) return work();
  const [gid, groups] = [getegid(), getgroups()];
  try {
    try {
      setgroups([]);
      setegid(found.gid);
      seteuid(found.uid);
    } catch (error) {
      throw new TunnelError("store.failed", `Cannot act as the owner of "${folder}": ${describe(error)}`, {
        cause: error,
      });
    }
    // Such as below /var/lib/private, where systemd keeps what is of the accounts that it makes for each run.
    if (!canEnter(folder)) readAnything();
    return work();
  } finally {
    seteuid(0);
    setegid(gid);
    setgroups(groups);
  }
}

/** Why it cannot be looked at is for `work` to say. */
function statsOf(folder: string): Stats | undefined {
  try {
    return statSync(folder);
  } catch {
    return undefined;
  }
}

function canEnter(folder: string): boolean {
  try {
    statSync(`${folder}/.`);
    return true;
  } catch (error) {
    return systemCode(error) !== "EACCES";
  }
}
