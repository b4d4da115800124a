import { TunnelError } from "../core/errors.ts";

/** A text as Windows takes it. */
export function wide(text: string): Uint8Array {
  return Buffer.from(`${text}\0`, "utf16le");
}

/**
 * Windows' own libraries for services, events and owners of files, opened when they are first needed. Throws `service.failed` elsewhere.
 * Structures are written as documented for 64 bits (winsvc.h).
 */
export async function openWindows() {
  if (process.platform !== "win32") throw new TunnelError("service.failed", "This is not Windows");
  const ffi = await import("bun:ffi");
  const { symbols: kernel } = ffi.dlopen("kernel32.dll", {
    LoadLibraryW: { args: ["ptr"], returns: "ptr" },
    GetProcAddress: { args: ["ptr", "ptr"], returns: "ptr" },
    CreateThread: { args: ["ptr", "u64", "ptr", "ptr", "u32", "ptr"], returns: "ptr" },
    GetExitCodeThread: { args: ["ptr", "ptr"], returns: "i32" },
    GetLastError: { args: [], returns: "u32" },
    GetCurrentProcess: { args: [], returns: "ptr" },
    CloseHandle: { args: ["ptr"], returns: "i32" },
    LocalFree: { args: ["ptr"], returns: "ptr" },
  });
  const { symbols: advapi } = ffi.dlopen("advapi32.dll", {
    OpenSCManagerW: { args: ["ptr", "ptr", "u32"], returns: "ptr" },
    CreateServiceW: {
      args: [
        ...["ptr", "ptr", "ptr"],
        ...["u32", "u32", "u32", "u32"],
        ...["ptr", "ptr", "ptr", "ptr", "ptr", "ptr"],
      ] as const,
      returns: "ptr",
    },
    OpenServiceW: { args: ["ptr", "ptr", "u32"], returns: "ptr" },
    ChangeServiceConfigW: {
      args: [...["ptr", "u32", "u32", "u32"], ...["ptr", "ptr", "ptr", "ptr", "ptr", "ptr", "ptr"]] as const,
      returns: "i32",
    },
    ChangeServiceConfig2W: { args: ["ptr", "u32", "ptr"], returns: "i32" },
    QueryServiceStatusEx: { args: ["ptr", "u32", "ptr", "u32", "ptr"], returns: "i32" },
    QueryServiceConfigW: { args: ["ptr", "ptr", "u32", "ptr"], returns: "i32" },
    StartServiceW: { args: ["ptr", "u32", "ptr"], returns: "i32" },
    ControlService: { args: ["ptr", "u32", "ptr"], returns: "i32" },
    DeleteService: { args: ["ptr"], returns: "i32" },
    CloseServiceHandle: { args: ["ptr"], returns: "i32" },
    RegisterServiceCtrlHandlerExW: { args: ["ptr", "ptr", "ptr"], returns: "ptr" },
    SetServiceStatus: { args: ["ptr", "ptr"], returns: "i32" },
    RegisterEventSourceW: { args: ["ptr", "ptr"], returns: "ptr" },
    ReportEventW: {
      args: [...["ptr", "u16", "u16", "u32"], ...["ptr", "u16", "u32", "ptr", "ptr"]] as const,
      returns: "i32",
    },
    DeregisterEventSource: { args: ["ptr"], returns: "i32" },
    GetNamedSecurityInfoW: { args: ["ptr", "u32", "u32", "ptr", "ptr", "ptr", "ptr", "ptr"], returns: "u32" },
    ConvertSidToStringSidW: { args: ["ptr", "ptr"], returns: "i32" },
    OpenProcessToken: { args: ["ptr", "u32", "ptr"], returns: "i32" },
    GetTokenInformation: { args: ["ptr", "u32", "ptr", "u32", "ptr"], returns: "i32" },
  });
  return { ffi, kernel, advapi };
}

export type Windows = Awaited<ReturnType<typeof openWindows>>;
/** What most functions take; 0 or null is none. */
export type WindowsHandle = ReturnType<Windows["advapi"]["OpenSCManagerW"]>;
