import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runProcess, startProcess } from "../processes.ts";
import { makeTempDir } from "../temp-dir.ts";
import { commandPath, freePort, missingCommands, missingRoot } from "./commands.ts";
import { untilListening } from "./until-listening.ts";

const PASSWORD = "not-a-secret";
const FOLDERS = ["private", "lock", "state", "cache", "pid", "ncalrpc", "share"];

/** Other users may not change the user of a session, which the server does even when it is the same. */
export const SAMBA_MISSING = missingCommands("smbd", "pdbedit", "smbclient") ?? missingRoot();

export interface Samba extends AsyncDisposable {
  readonly port: number;
  /** The folder that it shares as `files`. */
  readonly share: string;
  /** `smbclient` with its own configuration and login, to this port of 127.0.0.1. */
  client(port: number, script: string, ...flags: readonly string[]): readonly string[];
}

/** A file server with one share, one user, and every file of its own in one folder. */
export async function startSamba(): Promise<Samba> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir());
  const at = (name: string): string => join(dir.path, name);
  for (const folder of FOLDERS) mkdirSync(at(folder), { mode: 0o755 });
  const port = await freePort();
  const user = (await runProcess(["id", "-un"])).stdout.trim();
  writeFileSync(
    at("smb.conf"),
    [
      ...["[global]", "server role = standalone server", `smb ports = ${port}`],
      ...["interfaces = 127.0.0.1/8", "bind interfaces only = yes", "disable netbios = yes"],
      ...[`private dir = ${at("private")}`, `lock directory = ${at("lock")}`, `state directory = ${at("state")}`],
      ...[`cache directory = ${at("cache")}`, `pid directory = ${at("pid")}`, `ncalrpc dir = ${at("ncalrpc")}`],
      ...[`passdb backend = tdbsam:${at("private/passdb.tdb")}`, "load printers = no", "disable spoolss = yes"],
      ...["[files]", `path = ${at("share")}`, "read only = no", ""],
    ].join("\n"),
  );
  writeFileSync(at("login"), `username = ${user}\npassword = ${PASSWORD}\n`, { mode: 0o600 });
  writeFileSync(at("password"), `${PASSWORD}\n${PASSWORD}\n`, { mode: 0o600 });
  const add = ["sh", "-c", '"$0" -s "$1" -a -t -u "$2" <"$3"', commandPath("pdbedit"), at("smb.conf"), user];
  const { code, stderr } = await runProcess([...add, at("password")]);
  if (code !== 0) throw new Error(`pdbedit ended with ${code}: ${stderr}`);
  // In a process group of its own, as is its default: at its end it signals the whole group it is in.
  const argv = [commandPath("smbd"), "-F", "--debug-stdout", "-d", "1", "-s", at("smb.conf")];
  const server = stack.use(startProcess(argv));
  const client: Samba["client"] = (to, script, ...flags) => [
    ...[commandPath("smbclient"), "//127.0.0.1/files", "-s", at("smb.conf"), "-p", String(to), "-A", at("login")],
    ...[...flags, "-c", script],
  ];
  await untilListening(server, port);
  const all = stack.move();
  return { port, share: at("share"), client, [Symbol.asyncDispose]: () => all.disposeAsync() };
}
