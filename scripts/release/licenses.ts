import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT, readLock } from "./npm-packages.ts";
import { licenseOf } from "./sbom.ts";

/** What `culvert version --licenses` prints: committed, so that the program run from source prints it too. */
export const LICENSES_FILE = join(ROOT, "src", "cli", "licenses.txt");

const RULE = "-".repeat(80);

/** Statically linked into the runtime, by its own list (https://github.com/oven-sh/bun/blob/main/LICENSE.md). */
const IN_THE_RUNTIME = [
  ["JavaScriptCore and WebKit", "LGPL-2.0", "https://github.com/oven-sh/WebKit"],
  ["BoringSSL", "Apache-2.0, OpenSSL, ISC", "https://boringssl.googlesource.com/boringssl"],
  ["brotli", "MIT", "https://github.com/google/brotli"],
  ["c-ares", "MIT", "https://github.com/c-ares/c-ares"],
  ["highway", "Apache-2.0", "https://github.com/google/highway"],
  ["ICU", "Unicode-3.0", "https://github.com/unicode-org/icu"],
  ["libarchive", "BSD-2-Clause", "https://github.com/libarchive/libarchive"],
  ["libbase64", "BSD-2-Clause", "https://github.com/aklomp/base64"],
  ["libdeflate", "MIT", "https://github.com/ebiggers/libdeflate"],
  ["libjpeg-turbo", "BSD-3-Clause, IJG, Zlib", "https://github.com/libjpeg-turbo/libjpeg-turbo"],
  ["libspng", "BSD-2-Clause", "https://github.com/randy408/libspng"],
  ["libuv (Windows)", "MIT", "https://github.com/libuv/libuv"],
  ["libwebp", "BSD-3-Clause", "https://github.com/webmproject/libwebp"],
  ["LLVM libc++abi", "Apache-2.0 WITH LLVM-exception", "https://github.com/llvm/llvm-project"],
  ["lol-html", "BSD-3-Clause", "https://github.com/cloudflare/lol-html"],
  ["ls-hpack, ls-qpack", "MIT", "https://github.com/litespeedtech"],
  ["lsquic", "MIT, BSD-3-Clause", "https://github.com/litespeedtech/lsquic"],
  ["mimalloc", "MIT", "https://github.com/microsoft/mimalloc"],
  ["picohttpparser", "MIT", "https://github.com/h2o/picohttpparser"],
  ["simdutf", "Apache-2.0", "https://github.com/simdutf/simdutf"],
  ["TigerBeetle IO (parts)", "Apache-2.0", "https://github.com/tigerbeetle/tigerbeetle"],
  ["TinyCC", "LGPL-2.1", "https://github.com/tinycc/tinycc"],
  ["uSockets, uWebSockets", "Apache-2.0", "https://github.com/uNetworking"],
  ["uucode", "MIT", "https://github.com/jacobsandlund/uucode"],
  ["zlib-ng", "Zlib", "https://github.com/zlib-ng/zlib-ng"],
  ["zstd", "BSD-3-Clause", "https://github.com/facebook/zstd"],
] as const;

/** The whole text, from what is installed. */
export function renderLicenses(): string {
  const lock = readLock();
  const names = [...lock.values()].filter(({ dev }) => !dev).map(({ name }) => name);
  const parts = [
    "Culvert is under the Apache License 2.0, whose text stands at the end. Inside its binary are:",
    runtimeText(lock.get("bun")?.version ?? ""),
    ...names.sort().map((name) => packageText(name, lock.get(name)?.version ?? "")),
    `Apache License 2.0\n\n${readFileSync(join(ROOT, "LICENSE"), "utf8").trim()}`,
  ];
  return `${parts.map((part) => part.trim()).join(`\n\n${RULE}\n`)}\n`;
}

function runtimeText(version: string): string {
  const rows = IN_THE_RUNTIME.map(([name, license, url]) => `  ${name.padEnd(28)}${license.padEnd(32)}${url}`);
  return [
    `Bun ${version}: MIT`,
    "",
    "Copyright (c) Oven and contributors, https://github.com/oven-sh/bun. Under the MIT License, whose terms are those",
    "of the packages below that name it. Bun is linked statically with the following; its LICENSE.md names them too,",
    "and says how to build Bun, and with it this binary, with a changed JavaScriptCore or TinyCC.",
    "",
    ...rows,
  ].join("\n");
}

function packageText(name: string, version: string): string {
  const license = licenseOf(name);
  const folder = join(ROOT, "node_modules", name);
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  const head = `${name} ${version}: ${license}`;
  if (name.startsWith("@infisical/quic-")) return `${head}\n\n${QUICHE}`;
  // One text for all that is under it.
  if (license === "Apache-2.0") return `${head}\n\nSee the text at the end.`;
  if (file === undefined) throw new Error(`${name} brings no licence text`);
  return `${head}\n\n${readFileSync(join(folder, file), "utf8").trim()}`;
}

const QUICHE = [
  "Only in binaries for Linux x64 with glibc. See the text at the end. Linked statically into it: quiche",
  "(https://github.com/cloudflare/quiche, BSD-2-Clause, copyright Cloudflare, Inc.), BoringSSL and Rust crates under",
  "the MIT License or the Apache License 2.0.",
].join("\n");

if (import.meta.main) writeFileSync(LICENSES_FILE, renderLicenses());
