import { TunnelError } from "../core/errors.ts";
import { openWindows, type Windows, type WindowsHandle, wide } from "./windows-api.ts";

const ALL_OF_MANAGER = 0xf003f;
const ALL_OF_SERVICE = 0xf01ff;
const CONNECT = 1;
const QUERY = 1 | 4;
const OWN_PROCESS = 0x10;
const AUTO_START = 2;
const ERROR_NORMAL = 1;
const STATUS_PROCESS_INFO = 0;
const STOP = 1;
/** Kinds of ChangeServiceConfig2W. */
const CONFIG = { description: 1, failure: 2, delayed: 3, failureFlag: 4, preshutdown: 7 } as const;
const RESTART = 1;
const STATES = ["unknown", "stopped", "starting", "stopping", "running"] as const;
/** System error codes (winerror.h). */
const ACCESS_DENIED = 5;
const ALREADY_RUNNING = 1056;
const NOT_THERE = 1060;
const NOT_ACTIVE = 1062;
const MARKED_FOR_DELETE = 1072;
const EXISTS = 1073;

export interface ScmState {
  readonly state: (typeof STATES)[number];
  readonly pid: number;
  readonly autoStart: boolean;
  /** 0 = it ended well or was never started. */
  readonly exitCode: number;
  /** The whole command line; empty where it may not be read. */
  readonly command: string;
}

export interface ScmService {
  readonly name: string;
  readonly displayName: string;
  readonly description: string;
  /** The whole command line. */
  readonly command: string;
  /** Account it runs as, such as `NT SERVICE\name`. */
  readonly account: string;
  /** Milliseconds to wait before each of the first starts after a failure; the last one counts from then on. */
  readonly restartAfterMs: readonly number[];
  /** Time it may take to stop when the machine goes down, in ms. */
  readonly stopMs: number;
}

/**
 * Windows' Service Control Manager. Every function rejects with `service.failed` when it refuses, with its error code.
 */
export const windowsScm = {
  /** Makes the service, or gives one that exists these settings. It starts with the machine, after what is urgent. */
  async define(service: ScmService): Promise<void> {
    const windows = await openWindows();
    const { advapi } = windows;
    const manager = openManager(windows, ALL_OF_MANAGER);
    try {
      const texts = [service.name, service.displayName, service.command, service.account].map(wide);
      const [name, displayName, command, account] = texts as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
      let handle = advapi.CreateServiceW(
        ...([manager, name, displayName, ALL_OF_SERVICE, OWN_PROCESS, AUTO_START, ERROR_NORMAL] as const),
        ...([command, null, null, null, account, null] as const),
      );
      const why = isNone(handle) ? windows.kernel.GetLastError() : 0;
      if (isNone(handle) && why !== EXISTS) throw failed(`make the service ${service.name}`, why);
      if (isNone(handle)) {
        handle = openService(windows, manager, service.name, ALL_OF_SERVICE);
        const changed = advapi.ChangeServiceConfigW(
          ...([handle, OWN_PROCESS, AUTO_START, ERROR_NORMAL, command, null, null, null] as const),
          ...([account, null, displayName] as const),
        );
        if (changed === 0) throw failed(`change the service ${service.name}`, windows.kernel.GetLastError());
      }
      configure(windows, handle, service);
      advapi.CloseServiceHandle(handle);
    } finally {
      advapi.CloseServiceHandle(manager);
    }
  },

  /** Undefined when there is no such service. */
  async query(name: string): Promise<ScmState | undefined> {
    const windows = await openWindows();
    return await withService(windows, name, { manager: CONNECT, service: QUERY }, (handle) => ({
      ...statusOf(windows, handle),
      ...configOf(windows, handle),
    }));
  },

  async start(name: string): Promise<void> {
    const windows = await openWindows();
    await withService(windows, name, { manager: CONNECT, service: ALL_OF_SERVICE }, (handle) => {
      if (windows.advapi.StartServiceW(handle, 0, null) !== 0) return;
      const why = windows.kernel.GetLastError();
      if (why !== ALREADY_RUNNING) throw failed(`start the service ${name}`, why);
    });
  },

  /** Asks it to stop; true when it was running. */
  async stop(name: string): Promise<boolean> {
    const windows = await openWindows();
    const asked = await withService(windows, name, { manager: CONNECT, service: ALL_OF_SERVICE }, (handle) => {
      const status = new Uint32Array(7);
      if (windows.advapi.ControlService(handle, STOP, status) !== 0) return true;
      const why = windows.kernel.GetLastError();
      if (why !== NOT_ACTIVE) throw failed(`stop the service ${name}`, why);
      return false;
    });
    return asked === true;
  },

  /** One that is not there is as good as removed. */
  async remove(name: string): Promise<void> {
    const windows = await openWindows();
    await withService(windows, name, { manager: CONNECT, service: ALL_OF_SERVICE }, (handle) => {
      if (windows.advapi.DeleteService(handle) !== 0) return;
      const why = windows.kernel.GetLastError();
      if (why !== MARKED_FOR_DELETE) throw failed(`remove the service ${name}`, why);
    });
  },
} as const;

export type WindowsScm = typeof windowsScm;

/** Settings that some systems do not know are tried, and no more. */
function configure(windows: Windows, handle: WindowsHandle, service: ScmService): void {
  const { advapi, ffi } = windows;
  const address = (bytes: Uint8Array | Uint32Array): bigint => BigInt(ffi.ptr(bytes));
  const description = wide(service.description);
  advapi.ChangeServiceConfig2W(handle, CONFIG.description, new BigUint64Array([address(description)]));
  const actions = new Uint32Array(service.restartAfterMs.flatMap((ms) => [RESTART, ms]));
  // SERVICE_FAILURE_ACTIONSW: reset period in s, two texts, how many actions, where they are.
  const failure = new DataView(new ArrayBuffer(40));
  failure.setUint32(0, 86_400, true);
  failure.setUint32(24, service.restartAfterMs.length, true);
  failure.setBigUint64(32, address(actions), true);
  advapi.ChangeServiceConfig2W(handle, CONFIG.failure, new Uint8Array(failure.buffer));
  const one = new Uint32Array([1]);
  // An end with an exit code counts as a failure too, not only a crash.
  advapi.ChangeServiceConfig2W(handle, CONFIG.failureFlag, one);
  advapi.ChangeServiceConfig2W(handle, CONFIG.delayed, one);
  advapi.ChangeServiceConfig2W(handle, CONFIG.preshutdown, new Uint32Array([service.stopMs]));
}

async function withService<T>(
  windows: Windows,
  name: string,
  rights: { readonly manager: number; readonly service: number },
  act: (handle: WindowsHandle) => T,
): Promise<T | undefined> {
  const { advapi, kernel } = windows;
  const manager = openManager(windows, rights.manager);
  try {
    const handle = advapi.OpenServiceW(manager, wide(name), rights.service);
    if (isNone(handle)) {
      const why = kernel.GetLastError();
      if (why === NOT_THERE) return undefined;
      throw failed(`open the service ${name}`, why);
    }
    try {
      return await Promise.resolve(act(handle));
    } finally {
      advapi.CloseServiceHandle(handle);
    }
  } finally {
    advapi.CloseServiceHandle(manager);
  }
}

function openManager({ advapi, kernel }: Windows, rights: number): WindowsHandle {
  const manager = advapi.OpenSCManagerW(null, null, rights);
  if (isNone(manager)) throw failed("open the service manager", kernel.GetLastError());
  return manager;
}

function openService({ advapi, kernel }: Windows, manager: WindowsHandle, name: string, rights: number): WindowsHandle {
  const handle = advapi.OpenServiceW(manager, wide(name), rights);
  if (isNone(handle)) throw failed(`open the service ${name}`, kernel.GetLastError());
  return handle;
}

/** SERVICE_STATUS_PROCESS: type, state, controls, exit codes (two), checkpoint, hint, process, flags. */
function statusOf({ advapi, kernel }: Windows, handle: WindowsHandle) {
  const status = new Uint32Array(9);
  const needed = new Uint32Array(1);
  if (advapi.QueryServiceStatusEx(handle, STATUS_PROCESS_INFO, status, status.byteLength, needed) === 0) {
    throw failed("ask a service for its state", kernel.GetLastError());
  }
  const [, state = 0, , exit = 0, specific = 0, , , pid = 0] = status;
  return { state: STATES[state] ?? "unknown", pid, exitCode: specific === 0 ? exit : specific };
}

/** QUERY_SERVICE_CONFIGW: kind, start, error control, and where behind them in the same bytes the command line is. */
function configOf({ advapi, ffi }: Windows, handle: WindowsHandle) {
  const config = new Uint32Array(2048);
  const needed = new Uint32Array(1);
  if (advapi.QueryServiceConfigW(handle, config, config.byteLength, needed) === 0) {
    return { autoStart: false, command: "" };
  }
  const bytes = new DataView(config.buffer);
  const begin = Number(bytes.getBigUint64(16, true) - BigInt(ffi.ptr(config)));
  let command = "";
  for (let at = begin; at >= 0 && at + 2 <= bytes.byteLength; at += 2) {
    const unit = bytes.getUint16(at, true);
    if (unit === 0) break;
    command += String.fromCharCode(unit);
  }
  return { autoStart: config[1] === AUTO_START, command };
}

function isNone(handle: WindowsHandle): boolean {
  return handle === null || Number(handle) === 0;
}

function failed(doing: string, code: number): TunnelError {
  const known: Readonly<Record<number, string>> = {
    [ACCESS_DENIED]: "access is denied: run it as administrator",
    [NOT_THERE]: "there is no such service",
    [MARKED_FOR_DELETE]: "it is still being removed: close the Services window and try again",
  };
  return new TunnelError("service.failed", `Cannot ${doing}: ${known[code] ?? `Windows error ${code}`}`);
}
