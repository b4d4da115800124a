import { TunnelError } from "../core/errors.ts";
import { openWindows, type Windows, type WindowsHandle, wide } from "./windows-api.ts";

const FILE_OBJECT = 1;
const OWNER = 1;
const TOKEN_QUERY = 8;
const TOKEN_USER = 1;
const FILE_NOT_FOUND = 2;
const PATH_NOT_FOUND = 3;
/** LocalSystem, the administrators, and Windows' own installer. */
const TRUSTED = ["S-1-5-18", "S-1-5-32-544", "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"] as const;
const MAX_SID_TEXT = 256;

/**
 * Every account may make folders where services keep theirs, and whoever made one first can open it again whatever
 * its access list says. Rejects with `service.failed` when a folder belongs to neither the system, the administrators
 * nor us; one that is not there is no harm.
 */
export async function refuseForeignFolder(path: string): Promise<void> {
  const windows = await openWindows();
  const owner = ownerOf(windows, path);
  if (owner === undefined || owner === ownAccount(windows) || TRUSTED.some((sid) => sid === owner)) return;
  throw new TunnelError(
    "service.failed",
    `${path} belongs to the account ${owner}, who could read the token: remove it`,
  );
}

/** The owner's SID as text. */
function ownerOf(windows: Windows, path: string): string | undefined {
  const { advapi, kernel } = windows;
  const sid = new BigUint64Array(1);
  const descriptor = new BigUint64Array(1);
  const why = advapi.GetNamedSecurityInfoW(wide(path), FILE_OBJECT, OWNER, sid, null, null, null, descriptor);
  if (why === FILE_NOT_FOUND || why === PATH_NOT_FOUND) return undefined;
  if (why !== 0) throw failed(`tell who owns ${path}`, why);
  try {
    return sidText(windows, sid[0]);
  } finally {
    kernel.LocalFree(pointer(descriptor[0]));
  }
}

function ownAccount(windows: Windows): string {
  const { advapi, kernel } = windows;
  const token = new BigUint64Array(1);
  if (advapi.OpenProcessToken(kernel.GetCurrentProcess(), TOKEN_QUERY, token) === 0) {
    throw failed("tell who runs this", kernel.GetLastError());
  }
  try {
    // TOKEN_USER: where the SID is, which follows in the same memory.
    const user = new BigUint64Array(32);
    const needed = new Uint32Array(1);
    if (advapi.GetTokenInformation(pointer(token[0]), TOKEN_USER, user, user.byteLength, needed) === 0) {
      throw failed("tell who runs this", kernel.GetLastError());
    }
    return sidText(windows, user[0]);
  } finally {
    kernel.CloseHandle(pointer(token[0]));
  }
}

function sidText({ advapi, ffi, kernel }: Windows, sid: bigint | undefined): string {
  const at = new BigUint64Array(1);
  if (advapi.ConvertSidToStringSidW(pointer(sid), at) === 0) throw failed("read a SID", kernel.GetLastError());
  const text = pointer(at[0]);
  try {
    let read = "";
    if (text === null) return read;
    for (let index = 0; index < MAX_SID_TEXT; index += 1) {
      const unit = ffi.read.u16(text, index * 2);
      if (unit === 0) break;
      read += String.fromCharCode(unit);
    }
    return read;
  } finally {
    kernel.LocalFree(text);
  }
}

/** An address or a handle that Windows wrote, as it takes them. */
function pointer(value: bigint | undefined): WindowsHandle {
  return Number(value ?? 0n) as NonNullable<WindowsHandle>;
}

function failed(doing: string, code: number): TunnelError {
  return new TunnelError("service.failed", `Cannot ${doing}: Windows error ${code}`);
}
