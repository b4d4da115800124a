import { TunnelError } from "../core/errors.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** Bytes of `sun_path` (unix(7)). */
const MAX_PATH_BYTES = 108;

/** A datagram socket to one unix address. */
export interface NotifySocket {
  /** False when the message could not be sent now. */
  send(text: string): boolean;
  close(): void;
}

/**
 * Opens a socket for the address in `$NOTIFY_SOCKET`: a path, or `@` and an abstract name (sd_notify(3)). No runtime has
 * unix datagrams of its own, so these are calls into the C library. Rejects with `dial.failed`, also on runtimes that
 * are not Bun and on systems that are not Linux.
 */
export async function openNotifySocket(address: string): Promise<NotifySocket> {
  const bytes = sockaddr(address);
  const { dlopen } = await import("bun:ffi").catch((cause: unknown) => {
    throw new TunnelError("dial.failed", "This runtime cannot open unix datagram sockets", { cause });
  });
  const { symbols, close } = openLibc(dlopen);
  const fd = symbols.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new TunnelError("dial.failed", "The system gives no unix datagram socket");
  return {
    send(text) {
      const message = new TextEncoder().encode(text);
      const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
      return Number(symbols.sendto(fd, message, message.length, flags, bytes, bytes.length)) === message.length;
    },
    close() {
      symbols.close(fd);
      close();
    },
  };
}

function sockaddr(address: string): Uint8Array {
  const path = new TextEncoder().encode(address);
  const abstract = address.startsWith("@");
  if (!(abstract || address.startsWith("/")) || path.length >= MAX_PATH_BYTES) {
    throw new TunnelError("dial.failed", `Cannot use the notification socket "${address}"`);
  }
  const bytes = new Uint8Array(2 + path.length + (abstract ? 0 : 1));
  new Uint16Array(bytes.buffer, 0, 1)[0] = AF_UNIX;
  bytes.set(path, 2);
  if (abstract) bytes[2] = 0;
  return bytes;
}

/** glibc and musl call it differently. */
function openLibc(dlopen: typeof import("bun:ffi").dlopen) {
  const names = ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`];
  let cause: unknown;
  for (const name of names) {
    try {
      return dlopen(name, {
        socket: { args: ["i32", "i32", "i32"], returns: "i32" },
        sendto: { args: ["i32", "ptr", "usize", "i32", "ptr", "u32"], returns: "i64" },
        close: { args: ["i32"], returns: "i32" },
      });
    } catch (error) {
      cause = error;
    }
  }
  throw new TunnelError("dial.failed", "Cannot call the C library", { cause });
}
