import { lstatSync, readlinkSync } from "node:fs";
import { describe } from "../core/errors.ts";

const MAX_LINKS = 40;
const OTHERS_WRITE = 0o022;
const STICKY = 0o1000;

/**
 * Why somebody other than root could put another program in the place of this one, which a service of the machine would
 * then run; undefined = nobody can. Links are followed, and every folder on the way counts. In a sticky folder only
 * root replaces what is root's (inode(7)), so there the entry decides. Access control lists are not read.
 *
 * @param path absolute, on a POSIX system
 */
export function replaceable(path: string): string | undefined {
  const ahead = path.split("/").reverse();
  let links = 0;
  let at = "/";
  let problem = entryProblem(at);
  while (problem === undefined) {
    const name = ahead.pop();
    if (name === undefined) return undefined;
    if (name === "" || name === ".") continue;
    if (name === "..") {
      at = parentOf(at);
      continue;
    }
    const next = at === "/" ? `/${name}` : `${at}/${name}`;
    problem = entryProblem(next);
    if (problem !== undefined) break;
    const target = linkOf(next);
    if (target === undefined) {
      at = next;
      continue;
    }
    if (++links > MAX_LINKS) return `${path} leads through too many links`;
    ahead.push(...target.split("/").reverse());
    if (target.startsWith("/")) at = "/";
  }
  return problem;
}

function entryProblem(path: string): string | undefined {
  try {
    const stats = lstatSync(path);
    if (stats.uid !== 0) return `${path} belongs to user ${stats.uid}, not to root`;
    // A link has no permissions of its own.
    if (stats.isSymbolicLink() || (stats.mode & OTHERS_WRITE) === 0) return undefined;
    if (stats.isDirectory() && (stats.mode & STICKY) !== 0) return undefined;
    const who = (stats.mode & 0o002) === 0 ? `group ${stats.gid}` : "everybody";
    return `${path} can be written by ${who}`;
  } catch (error) {
    return `${path} cannot be looked at: ${describe(error)}`;
  }
}

function linkOf(path: string): string | undefined {
  return lstatSync(path).isSymbolicLink() ? readlinkSync(path) : undefined;
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}
