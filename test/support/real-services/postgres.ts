import { chmodSync, chownSync, copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cleanEnvironment } from "../lab.ts";
import { runProcess, startProcess } from "../processes.ts";
import { makeTempDir } from "../temp-dir.ts";
import type { IssuedFiles } from "./authority.ts";
import { commandPath, freePort, missingCommands } from "./commands.ts";

const USER = "culvert";
const PASSWORD = "not a secret";
/** `nobody`: where no package made a user for the server. */
const NOBODY = 65_534;
/** Initialising a cluster writes 40 MB. */
const INIT_DEADLINE_MS = 30_000;

export const POSTGRES_MISSING = missingCommands("initdb", "postgres", "psql", "pgbench");

export interface Postgres extends AsyncDisposable {
  readonly port: number;
}

/** An empty cluster of its own, which asks for a password and offers TLS. */
export async function startPostgres(tls: IssuedFiles): Promise<Postgres> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir());
  const at = (name: string): string => join(dir.path, name);
  const uid = await serverUser();
  const owned = (path: string, mode: number): void => {
    if (uid !== undefined) chownSync(path, uid, uid);
    chmodSync(path, mode);
  };
  chmodSync(dir.path, 0o711);
  mkdirSync(at("data"));
  owned(at("data"), 0o700);
  writeFileSync(at("password"), PASSWORD);
  copyFileSync(tls.cert, at("cert.pem"));
  copyFileSync(tls.key, at("key.pem"));
  for (const file of ["password", "cert.pem", "key.pem"]) owned(at(file), 0o600);
  const options = { cwd: "/", env: cleanEnvironment(), ...(uid === undefined ? {} : { uid }) };
  const init = ["-D", at("data"), "-U", USER, "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"];
  const { code, stderr } = await runProcess(
    [commandPath("initdb"), ...init, "-A", "scram-sha-256", "--pwfile", at("password")],
    { ...options, deadlineMs: INIT_DEADLINE_MS },
  );
  if (code !== 0) throw new Error(`initdb ended with ${code}: ${stderr}`);
  const port = await freePort();
  const settings = {
    listen_addresses: "127.0.0.1",
    // Only TCP: a socket file would lie in a folder of the system.
    unix_socket_directories: "",
    port: String(port),
    fsync: "off",
    ssl: "on",
    ssl_cert_file: at("cert.pem"),
    ssl_key_file: at("key.pem"),
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const server = stack.use(startProcess([commandPath("postgres"), "-D", at("data"), ...flags], options));
  await server.errorLine(/database system is ready to accept connections/);
  // SIGTERM waits for clients, SIGINT does not.
  stack.defer(async () => {
    server.signal("SIGINT");
    await server.exitCode();
  });
  const all = stack.move();
  return { port, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** What `psql` and `pgbench` need to reach it by way of this port of 127.0.0.1. `sslMode` as in libpq. */
export function postgresEnvironment(port: number, sslMode: string, authority = ""): Record<string, string> {
  return {
    ...cleanEnvironment(),
    PGHOST: "127.0.0.1",
    PGPORT: String(port),
    PGUSER: USER,
    PGPASSWORD: PASSWORD,
    PGDATABASE: "postgres",
    PGSSLMODE: sslMode,
    PGCONNECT_TIMEOUT: "10",
    ...(authority === "" ? {} : { PGSSLROOTCERT: authority }),
  };
}

/** The server refuses to run as root; undefined = we are not root. */
async function serverUser(): Promise<number | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const { code, stdout } = await runProcess(["id", "-u", "postgres"]);
  return code === 0 ? Number(stdout) : NOBODY;
}
