// Which lines of src/ ran, for the search of inputs that do something new. Loaded with `--preload`: each source file gets
// a counter in front of its statements, found by the layout in which the transpiler prints them. A file whose changed
// text does not parse is left as it was, so this may miss lines but breaks nothing.

import { plugin } from "bun";

/** One counter a statement; they stop at 255. */
export const counters = new Uint8Array(1 << 16);
let used = 0;

/** Counters in use; 0 = nothing is counted. */
export function counterCount(): number {
  return used;
}

const GLOBAL = "__lines";
Object.assign(globalThis, { [GLOBAL]: counters });

const transpiler = new Bun.Transpiler({ loader: "ts", target: "bun" });
const script = new Bun.Transpiler({ loader: "js", target: "bun" });

plugin({
  name: "line counters",
  setup(build) {
    build.onLoad({ filter: /\/src\/.*\.ts$/ }, async ({ path }) => {
      const plain = transpiler.transformSync(await Bun.file(path).text());
      const first = used;
      const counted = withCounters(plain);
      try {
        script.transformSync(counted);
        return { contents: counted, loader: "js" };
      } catch {
        used = first;
        return { contents: plain, loader: "js" };
      }
    });
  },
});

function withCounters(text: string): string {
  const lines = text.split("\n");
  // What each open brace is: statements go into blocks only.
  const open: ("block" | "other")[] = [];
  let before = "";
  return lines
    .map((line) => {
      const statement = line.trim();
      if (statement.startsWith("}")) open.pop();
      const inBlock = open.at(-1) === "block";
      const counted = inBlock && statement !== "" ? countLine(line, statement, before) : line;
      if (statement.endsWith("{")) open.push(opensBlock(statement) ? "block" : "other");
      before = statement;
      return counted;
    })
    .join("\n");
}

function countLine(line: string, statement: string, before: string): string {
  const bodyOfIf = /^(?:\} )?(?:else )?(?:if|for|while) \(.*\)$/.test(before) || /^(?:\} )?else$/.test(before);
  if (bodyOfIf && statement.endsWith(";") && !/^(?:const|let)\b/.test(statement)) return `{ ${counter()} ${line} }`;
  const startsStatement = /[{};]$/.test(before) || /^(?:case .*|default):$/.test(before);
  const keyword = /^(?:if|for|while|switch|return|throw|const|let|try|this\.|[\w.#$]+ [-+*/|&^?<>]*= |[\w.#$]+\()/;
  return startsStatement && keyword.test(statement) ? `${counter()} ${line}` : line;
}

function counter(): string {
  const index = used;
  used = Math.min(used + 1, counters.length - 1);
  return `${GLOBAL}[${index}] < 255 && ${GLOBAL}[${index}]++;`;
}

/** Functions, methods, branches and loops; not classes and objects. */
function opensBlock(statement: string): boolean {
  if (/\bclass\b/.test(statement)) return false;
  return /(?:\)|=>|\belse|\btry|\bfinally|\bdo|:) \{$/.test(statement) && !/[\w"'\]]: \{$/.test(statement);
}
