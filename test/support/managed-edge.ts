import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type OriginCert, parseCertPem } from "../../src/wire/cert-pem.ts";
import { culvertCommand } from "./binary.ts";
import { cleanEnvironment, type EdgeProcess, startEdgeProcess } from "./lab.ts";
import { runProcess } from "./processes.ts";
import { makeTempDir } from "./temp-dir.ts";

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** An edge with its API, and the home of an operator who has the cert.pem of `edge init`. */
export interface ManagedEdge extends AsyncDisposable {
  readonly stateDir: string;
  readonly home: string;
  readonly certPath: string;
  readonly cert: OriginCert;
  readonly apiUrl: string;
  /** The one that runs now. */
  readonly edge: EdgeProcess;
  /** Of the operator: everything that these commands go by. */
  readonly env: Readonly<Record<string, string>>;
  /** Runs culvert, as the operator. */
  culvert(...args: readonly string[]): Promise<Ran>;
  /** Runs the unmodified cloudflared, as the operator. */
  cloudflared(...args: readonly string[]): Promise<Ran>;
  /** An API token of its own, by `edge token create`. */
  token(name: string, ...flags: readonly string[]): Promise<string>;
  /** Kills the edge, or ends it. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again, on the same ports. */
  start(): Promise<void>;
}

export const CLOUDFLARED = process.env["CLOUDFLARED_BIN"] ?? "";
/** Why the unmodified cloudflared cannot be run here. */
export const NO_CLOUDFLARED =
  CLOUDFLARED === ""
    ? "CLOUDFLARED_BIN is not set"
    : existsSync(CLOUDFLARED)
      ? undefined
      : "CLOUDFLARED_BIN is no file";

/** Where the edge says that its API is. */
export async function apiUrlOf({ process }: EdgeProcess): Promise<string> {
  const [, origin = ""] = await process.errorLine(/Edge is ready.* api=(https?:\/\/\S+)/);
  return `${origin}/client/v4`;
}

export async function startManagedEdge(
  options: {
    readonly edgeFlags?: readonly string[];
    readonly command?: readonly string[];
    /** Where its state is; it is then not removed. */
    readonly stateDir?: string;
  } = {},
): Promise<ManagedEdge> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir());
  const home = join(dir.path, "home");
  const stateDir = options.stateDir ?? join(dir.path, "state");
  mkdirSync(home);
  const { edgeFlags = [], command = culvertCommand() } = options;
  const launch = (ports: { publicPort?: number; tunnelPort?: number }, apiPort: string): Promise<EdgeProcess> =>
    startEdgeProcess(stateDir, ports, { command, flags: ["--api-listen", `127.0.0.1:${apiPort}`, ...edgeFlags] });
  let edge = await launch({}, "0");
  stack.defer(() => edge.process[Symbol.asyncDispose]());
  const apiUrl = await apiUrlOf(edge);
  const certPath = join(home, ".cloudflared", "cert.pem");
  const env = {
    ...cleanEnvironment(),
    HOME: home,
    TUNNEL_API_URL: apiUrl,
    TUNNEL_NO_PRECHECKS: "true",
    // cloudflared asks Cloudflare for updates after each of these commands. It shall reach nobody.
    HTTPS_PROXY: "http://127.0.0.1:9",
    HTTP_PROXY: "http://127.0.0.1:9",
  };
  const run = (argv: readonly string[]): Promise<Ran> => runProcess(argv, { env, cwd: home, deadlineMs: 20_000 });
  const culvert = (...args: readonly string[]): Promise<Ran> => run([...command, ...args]);
  const made = await culvert("edge", "init", "--state-dir", stateDir, "--api-url", apiUrl);
  const parsed = made.code === 0 ? parseCertPem(readFileSync(certPath, "utf8")) : undefined;
  if (parsed?.ok !== true) throw new Error(`edge init ended with ${made.code}: ${made.stderr}`);
  const owned = stack.move();
  return {
    ...{ stateDir, home, certPath, apiUrl, env, culvert },
    cert: parsed.value,
    get edge() {
      return edge;
    },
    cloudflared: (...args) => run([CLOUDFLARED, ...args]),
    token: async (name, ...flags) => {
      const { code, stdout, stderr } = await culvert(
        "edge",
        "token",
        "create",
        name,
        "--state-dir",
        stateDir,
        ...flags,
      );
      if (code !== 0) throw new Error(`edge token create ended with ${code}: ${stderr}`);
      return stdout.trim();
    },
    stop: async (signal = "SIGTERM") => {
      edge.process.signal(signal);
      await edge.process.exitCode(10_000);
    },
    start: async () => {
      await edge.process[Symbol.asyncDispose]();
      const { publicPort, tunnelPort } = edge;
      edge = await launch({ publicPort, tunnelPort }, new URL(apiUrl).port);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
