import { createHash, getRandomValues } from "node:crypto";
import { isatty } from "node:tty";
import { type AppAddress, originOf, parseAppAddress } from "../access/address.ts";
import type { DialSettings } from "../access/dialler.ts";
import { exchange, type HttpAnswer } from "../access/http-exchange.ts";
import { USER_AGENT } from "../access/stream.ts";
import { managementToken } from "../api-client/tunnels.ts";
import { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { ConsoleOutput } from "../core/console-output.ts";
import { systemCode, TunnelError } from "../core/errors.ts";
import { parseConnectorId } from "../core/ids.ts";
import { printable } from "../core/printable.ts";
import type { ByteChannel } from "../net/channel.ts";
import { isLoopbackHost } from "../net/loopback.ts";
import { TextSocket } from "../net/text-socket.ts";
import {
  formatStart,
  LIVE_CLOSE,
  LIVE_LEVELS,
  LOG_EVENTS,
  parseLogs,
  type StreamFilters,
} from "../wire/management-events.ts";
import { parseManagementToken } from "../wire/management-token.ts";
import { CLOSE } from "../wire/websocket/frame.ts";
import { handshakeFields, handshakeProblem, webSocketKey } from "../wire/websocket/handshake.ts";
import { noProblems, readDialling } from "./access-options.ts";
import { type Context, EXIT } from "./command.ts";
import { reportError, reportFailure } from "./failure.ts";
import { findTunnel, UsageError, withApi } from "./management.ts";
import { TAIL_FLAGS } from "./tail-flags.ts";
import { jsonLine, renderLine } from "./tail-line.ts";
import { isUnknownIssuer, knownAuthorities, withTrustHint } from "./tail-trust.ts";

const CLOUDFLARE_HOST = "management.argotunnel.com";
const CONNECT_TIMEOUT_MS = 30_000;
/** Bytes of one message: what a connector sends is far shorter. */
const MAX_MESSAGE_BYTES = 1024 * 1024;
/** A connector pings every 15 s; we do as well, and give up when neither brings anything for this long, in ms. */
const PING_EVERY_MS = 15_000;
const SILENCE_MS = 60_000;
const STDOUT_FD = 1;

interface TailOptions {
  readonly filters: StreamFilters;
  readonly connectorId: string | undefined;
  readonly host: AppAddress | undefined;
  readonly dialling: DialSettings;
  readonly trace: string | undefined;
  readonly render: (line: Parameters<typeof renderLine>[0]) => string;
}

/** `culvert tail [TUNNEL]`: prints a connector's log lines as they are written, until it is stopped. */
export async function run(context: Context): Promise<number> {
  const values = new Values(TAIL_FLAGS, { args: context.args, env: context.host.env });
  const problems = noProblems();
  problems.usage.push(...values.issues.map((issue) => issue.message));
  const options = readOptions(context, values, problems);
  const given = values.string("token");
  const [tunnel, ...more] = context.positionals;
  if (more.length > 0) problems.usage.push("Give one tunnel at most: its name or its id");
  if (tunnel === undefined && given === undefined) problems.usage.push("Name the tunnel, or give a --token for it");
  const wrong = [...problems.usage, ...problems.failures];
  if (wrong.length > 0) {
    return reportFailure(context, wrong, { usage: problems.usage.length > 0, command: "culvert tail" });
  }
  try {
    const asked = given === undefined ? await askToken(context, tunnel ?? "", "logs") : { token: given, ca: undefined };
    return typeof asked === "number" ? asked : await follow(context, options, asked);
  } catch (error) {
    if (endOf(context).aborted) return EXIT.ok;
    return reportError(context, error);
  }
}

/** `culvert tail token TUNNEL`: prints a token to follow the tunnel's log with. */
export async function token(context: Context): Promise<number> {
  const [tunnel, ...more] = context.positionals;
  if (tunnel === undefined || more.length > 0) {
    return reportFailure(context, ["Give one tunnel: its name or its id"], {
      usage: true,
      command: "culvert tail token",
    });
  }
  const made = await askToken(context, tunnel, "logs");
  if (typeof made === "number") return made;
  context.print(JSON.stringify({ token: made.token }));
  return EXIT.ok;
}

function readOptions(context: Context, values: Values, problems: ReturnType<typeof noProblems>): TailOptions {
  const wrong = (message: string): undefined => void problems.usage.push(message);
  const oneOf = <T extends string>(flag: string, text: string | undefined, choices: readonly T[]): T | undefined =>
    choices.find((choice) => choice === text) ?? wrong(`--${flag} must be one of ${choices.join(", ")}`);
  const events = values.list("event").flatMap((text) => oneOf("event", text, LOG_EVENTS) ?? []);
  const level = oneOf("level", values.string("level"), LIVE_LEVELS) ?? "debug";
  const sampling = Number(values.string("sample"));
  if (!(sampling > 0 && sampling <= 1)) wrong("--sample must be above 0, and 1 at most");
  const asked = values.string("connector-id");
  const connectorId = asked === undefined ? undefined : parseConnectorId(asked);
  if (asked !== undefined && connectorId === undefined) wrong(`--connector-id "${asked}" is not a UUID`);
  const output = oneOf("output", values.string("output"), ["default", "json"]);
  const color = oneOf("color", values.string("color"), ["auto", "always", "never"]);
  const noColor = (context.host.env["NO_COLOR"] ?? "") !== "";
  const coloured = color === "always" || (color === "auto" && !noColor && isatty(STDOUT_FD));
  const named = values.string("management-hostname");
  const host = named === undefined ? undefined : parseAppAddress(named);
  if (host?.ok === false) wrong(`--management-hostname "${named}" ${host.issues.map((i) => i.message).join("; ")}`);
  const trace = values.string("trace");
  if (trace !== undefined && !/^[\x21-\x7e]+$/.test(trace)) wrong("--trace has a character that a header cannot hold");
  return {
    ...{ filters: { events, level, sampling }, connectorId, trace },
    host: host?.ok === true ? host.value : undefined,
    dialling: readDialling(values, context, problems),
    render: output === "json" ? jsonLine : (line) => renderLine(line, coloured),
  };
}

/** What opens a log. */
interface LogKey {
  readonly token: string;
  /** The authority of the API that gave it, in PEM. */
  readonly ca: string | undefined;
}

/** A token of the API that cert.pem is for, or the exit code after what is wrong was said. */
async function askToken(context: Context, tunnel: string, resource: "logs"): Promise<LogKey | number> {
  let made: LogKey | undefined;
  const code = await withApi(context, "tail", [], async ({ api }) => {
    const token = await managementToken(api, await findTunnel(api, tunnel), resource);
    if (hostOf(token) === undefined && !api.isCloudflare && !isHostGiven(context)) {
      throw new UsageError(
        "This edge has no name for looking into connectors: run it with --domain or --management-hostname, or, on its machine, say where its visitors come, such as --management-hostname http://localhost:8080",
      );
    }
    made = { token, ca: api.ca };
  });
  return made === undefined || code !== EXIT.ok ? code : made;
}

function isHostGiven({ args, host }: Context): boolean {
  return args.has("management-hostname") || (host.env["TUNNEL_MANAGEMENT_HOSTNAME"] ?? "") !== "";
}

/** Aborts when nobody wants more lines. */
function endOf({ stop, outputLost }: Context): AbortSignal {
  return AbortSignal.any([stop, outputLost]);
}

/** Where a token says that it is taken. */
function hostOf(text: string): AppAddress | undefined {
  const url = parseManagementToken(text)?.managementUrl;
  const parsed = url === undefined ? undefined : parseAppAddress(url);
  return parsed?.ok === true ? parsed.value : undefined;
}

async function follow(context: Context, options: TailOptions, key: LogKey): Promise<number> {
  const cloudflare = parseAppAddress(CLOUDFLARE_HOST);
  const told = hostOf(key.token) ?? (cloudflare.ok ? cloudflare.value : undefined);
  if (told === undefined || parseManagementToken(key.token) === undefined) {
    throw new TunnelError("config.invalid", "The token is not one for looking into a tunnel: see culvert tail token");
  }
  const { host, ...dialling } = placeOf(told, options);
  const query = new URLSearchParams({ access_token: key.token });
  if (options.connectorId !== undefined) query.set("connector_id", options.connectorId);
  const app = { ...host, target: `/logs?${query}` };
  const channel = await connectTrusting(context, app, { ...options, ...dialling }, key);
  return await print(context, options, channel);
}

/**
 * Where a log is followed, and how that is reached. A loopback address that was given only says what to dial: the edge
 * knows its management host by the name that the token tells, or by Cloudflare's.
 */
function placeOf(
  told: AppAddress,
  { host: given, dialling }: TailOptions,
): { readonly host: AppAddress; readonly dialling: DialSettings } {
  if (given === undefined) return { host: told, dialling };
  if (!isLoopbackHost(given.host)) return { host: given, dialling };
  const { host, port, secure } = given;
  return { host: { ...told, secure }, dialling: { ...dialling, connectTo: { host, port, serverName: undefined } } };
}

/** `connect`, by the authorities that this account knows where nobody else vouches for the edge. */
async function connectTrusting(
  context: Context,
  app: AppAddress,
  options: TailOptions,
  key: LogKey,
): Promise<ByteChannel> {
  const { dialling } = options;
  const stop = endOf(context);
  try {
    return await connect(app, options, stop);
  } catch (error) {
    const dialsToken = options.host === undefined && hostOf(key.token) !== undefined;
    if (dialsToken && dialling.proxyFor(app) === undefined && isNameUnknown(error)) throw withAddressHint(error, app);
    if (!isUnknownIssuer(error)) throw error;
    for (const ca of dialling.ca === undefined ? await knownAuthorities(context, key.ca) : []) {
      try {
        return await connect(app, { ...options, dialling: { ...dialling, ca } }, stop);
      } catch (again) {
        if (!isUnknownIssuer(again)) throw again;
      }
    }
    throw withTrustHint(error);
  }
}

/** Whether a dial failed because its host's name leads nowhere, or nobody could be asked. */
function isNameUnknown(error: unknown): error is TunnelError {
  return error instanceof TunnelError && /^(?:ENOTFOUND|EAI_|DNS_)/.test(systemCode(error.cause) ?? "");
}

/** What whoever has an edge of his own can do about it. */
function withAddressHint({ code, message, retry, cause }: TunnelError, { secure, port }: AppAddress): TunnelError {
  const local = `${secure ? "" : "http://"}localhost:${port}`;
  const hint = `on the edge's own machine, add --management-hostname ${local}`;
  return new TunnelError(code, `${message}: ${hint}`, { retry, cause });
}

/** The WebSocket's connection. Rejects with `edge.refused` and the reason that edge or connector gives. */
async function connect(app: AppAddress, options: TailOptions, stop: AbortSignal): Promise<ByteChannel> {
  const key = webSocketKey(getRandomValues(new Uint8Array(16)));
  const trace = options.trace === undefined ? [] : ["cf-trace-id", options.trace];
  const headers = ["User-Agent", USER_AGENT, ...trace, ...handshakeFields(key)];
  const request = {
    app,
    method: "GET",
    headers,
    upgrade: true,
    wantBody: true,
    timeoutMs: CONNECT_TIMEOUT_MS,
  } as const;
  const answer = await exchange(request, { dialling: options.dialling, clock: systemClock }, stop);
  if (answer.upgraded === undefined) throw new TunnelError("edge.refused", refusal(app, answer));
  const sha1 = (text: string): string => createHash("sha1").update(text).digest("base64");
  const problem = handshakeProblem(answer.status, answer.headers, key, sha1);
  if (problem === undefined) return answer.upgraded;
  const error = new TunnelError("edge.refused", `${originOf(app)} answered the handshake wrongly: ${problem}`);
  answer.upgraded.abort(error);
  throw error;
}

/** What an edge says where no connector is. */
const NO_CONNECTOR = 530;
const MAX_HEARD_CHARS = 500;
/**
 * What an edge says as well right after a connector has died without a word: its connections fail before the edge has
 * given them up. A proxy in front of an edge that is down or busy says the same.
 */
const UNANSWERED: ReadonlySet<number> = new Set([502, 503, 504]);

function refusal(app: AppAddress, { status, body }: HttpAnswer): string {
  const said = readErrors(new TextDecoder().decode(body));
  const why = said.length > 0 ? `: ${said.join("; ")}` : "";
  const at = `${originOf(app)} (status ${status})`;
  if (status === NO_CONNECTOR) return `No connector can be looked into at ${at}${why || ": is one running?"}`;
  if (UNANSWERED.has(status)) return `There is no connector, or the edge is not reached, at ${at}${why}`;
  return `${at} does not let the log be followed${why}`;
}

function readErrors(text: string): readonly string[] {
  try {
    const { errors } = JSON.parse(text) as { readonly errors?: readonly { readonly message?: unknown }[] };
    return (errors ?? []).flatMap(({ message }) => (typeof message === "string" ? [heard(message)] : []));
  } catch {
    return [];
  }
}

/** What the other side says, for a terminal. */
function heard(text: string): string {
  return printable(text.slice(0, MAX_HEARD_CHARS));
}

const CLOSE_REASONS: Readonly<Record<number, string>> = {
  [CLOSE.normal]: "the log is followed from elsewhere, or the connector stopped",
  [LIVE_CLOSE.sessionLimit]: "somebody else follows this log, and one at a time may",
  [LIVE_CLOSE.idle]: "nothing was asked for",
  1006: "the connection was lost",
};

function print(context: Context, { filters, render }: TailOptions, channel: ByteChannel): Promise<number> {
  const stop = endOf(context);
  const output = new ConsoleOutput({ write: context.write });
  output.onRegained((lines) => context.note(`culvert: Lines of the log were lost, since nobody read them: ${lines}`));
  return new Promise((resolve) => {
    const socket = new TextSocket(
      channel,
      {
        onMessage: (text) => {
          for (const line of (text === undefined ? undefined : parseLogs(text)) ?? []) output.write(render(line));
        },
        onDrain: () => {},
        onClose: (code, reason) => {
          stop.removeEventListener("abort", onStop);
          if (stop.aborted) {
            resolve(EXIT.ok);
            return;
          }
          const why = CLOSE_REASONS[code] ?? (reason === "" ? `close code ${code}` : heard(reason));
          context.note(`culvert: The log ended: ${why}`);
          resolve(EXIT.failed);
        },
      },
      { role: "client", maxMessageBytes: MAX_MESSAGE_BYTES, pingEveryMs: PING_EVERY_MS, silenceMs: SILENCE_MS },
    );
    const onStop = (): void => socket.close();
    stop.addEventListener("abort", onStop, { once: true });
    if (stop.aborted) onStop();
    else socket.send(formatStart(filters));
  });
}
