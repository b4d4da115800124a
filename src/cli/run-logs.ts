import type { RunConfig } from "../config/run-config.ts";
import { LiveLog } from "../connector/management/live-log.ts";
import { type Clock, systemRandom } from "../core/clock.ts";
import { consoleHead, createLogger, type Logger, type LogLevel } from "../core/log.ts";
import { batchLines } from "../core/log-batch.ts";
import { LogFile } from "../core/log-file.ts";
import { foldingLogger } from "../core/log-fold.ts";
import { createScrubber, redactingLogger } from "../core/log-redact.ts";
import { PROXY_VARIABLES, parseProxyUrl } from "../net/proxy-settings.ts";
import type { EndedRequest } from "../proxy/observer.ts";
import { ACCESS_MESSAGE, accessFields, accessText } from "../proxy/request-log.ts";

/** The logs of one run: standard error, a file if somebody wants one, and whoever follows through the tunnel. */
export interface RunLogs {
  readonly log: Logger;
  /** Of connections to the edge, with a level of its own. */
  readonly transportLog: Logger;
  /** Writes the one line of a request; undefined = nobody wants them. */
  readonly requestLog: ((ended: EndedRequest) => void) | undefined;
  readonly live: LiveLog;
  /** Changes the level of `log`. */
  setLevel(level: LogLevel): void;
  /** Writes what is left. */
  close(): Promise<void>;
}

/** Rejects with `config.invalid` when the file cannot be written. */
export async function openRunLogs(
  config: RunConfig,
  deps: {
    readonly env: Readonly<Record<string, string | undefined>>;
    /** More that nobody may read. */
    readonly secrets: readonly string[];
    readonly clock: Clock;
    readonly write: (text: string) => void;
  },
): Promise<RunLogs> {
  const { clock } = deps;
  const file = config.logFile === undefined ? undefined : await LogFile.open(config.logFile, clock);
  const console = batchLines(deps.write);
  const live = new LiveLog({ random: systemRandom });
  const scrub = createScrubber([...deps.secrets, ...secretsOf(config, deps.env)]);
  let level = config.logLevel;
  const open = (least: () => LogLevel) => {
    const base = createLogger({
      ...{ level: least, format: config.logFormat, wallMs: clock.wallMs, tap: live },
      ...{ write: console.write, also: file?.take },
    });
    const { log, flush } = foldingLogger(base, clock);
    return { base, log: redactingLogger(log, scrub), flush };
  };
  const main = open(() => level);
  const transport = open(() => config.transportLogLevel);
  /** Nothing is folded, and no secret has to be taken out. */
  const writeRequest = (ended: EndedRequest): void => {
    if (config.logFormat !== "default" || file !== undefined || live.wants("info")) {
      main.base.info(ACCESS_MESSAGE, accessFields(ended));
    } else if (main.base.enabled("info")) {
      console.write(`${consoleHead("info", clock.wallMs(), ACCESS_MESSAGE)} ${accessText(ended)}`, "info");
    }
  };
  return {
    log: main.log,
    transportLog: transport.log,
    requestLog: config.accessLog ? writeRequest : undefined,
    live,
    setLevel: (next) => {
      level = next;
    },
    close: async () => {
      main.flush();
      transport.flush();
      console.flush();
      await file?.close();
    },
  };
}

/** Everything this run knows that nobody may read in a log. */
function secretsOf(
  config: RunConfig,
  env: Readonly<Record<string, string | undefined>>,
): readonly (string | undefined)[] {
  const secret = Buffer.from(config.tunnelSecret);
  const proxies = PROXY_VARIABLES.map((name) => passwordOf(env[name]));
  const { edge } = config;
  const edges = edge.kind === "static" ? edge.edges : [];
  return [
    ...[secret.toString("base64"), secret.toString("base64url"), secret.toString("hex")],
    ...[config.metricsAuth, afterColon(config.metricsAuth), env["TUNNEL_TOKEN"], ...proxies],
    ...(config.tracing?.headers ?? []).flatMap(([, value]) => [value, afterSpace(value)]),
    ...edges.map((address) => config.proxyFor(address)?.credentials?.password),
  ];
}

function afterColon(text: string | undefined): string | undefined {
  return text?.slice(text.indexOf(":") + 1);
}

/** What follows `Bearer` or `Basic`. */
function afterSpace(text: string): string | undefined {
  return text.slice(text.lastIndexOf(" ") + 1);
}

function passwordOf(url: string | undefined): string | undefined {
  try {
    const parsed = parseProxyUrl(url ?? "");
    return parsed.ok ? parsed.value.credentials?.password : undefined;
  } catch {
    // Who uses it is told what is wrong with it.
    return undefined;
  }
}
