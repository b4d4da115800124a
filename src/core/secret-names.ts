/** What stands for a secret wherever one is shown. */
export const HIDDEN = "REDACTED";

/** A longer name is nobody's: whatever is under it is hidden. */
const MAX_NAME_CHARS = 200;
const CAMEL_CASE = /([a-z0-9])([A-Z])/g;
/** Telling in any place of a name, since names in lower case run together: `authtoken`, `phpsessid`, `userpassword`. */
const ANYWHERE = [
  ...["token(?!i[sz])", "secret(?!ar)", "pass[^a-z0-9]?(?:word|wd|phrase|code)", "pwd", "jwt", "csrf", "xsrf"],
  ...["(?<!allow-)credential", "assertion", "signature", "cookie", "sessid", "(?<!ob|pos)session", "authori[sz]ation"],
  ...["authentication", "authenticated[^a-z0-9]?[a-z]", "client[^a-z0-9]?cert", "samlresponse"],
  "auth(?:user|code|data|info|header|\\d)?(?![a-z0-9])",
];
/** Telling as a word of their own only: `sid`, but not `inside`. */
const WORDS = ["sid", "sig", "otp", "totp", "hmac", "bearer", "xfcc"];
/** Whose key lets somebody in; keys of caches, of databases and of handshakes do not. */
const KEY_OWNERS = [
  ...["api", "access", "private", "secret", "encryption", "signing", "ssh", "auth", "app", "application", "master"],
  ...["shared", "subscription", "functions?", "account", "storage", "admin", "client", "server", "service", "user"],
  ...["consumer", "license", "security", "session", "webhook"],
];
/** What a code is for that lets somebody in, once; codes of countries and of errors do not. */
const CODE_USES = [
  ...["access", "activation", "backup", "confirm(?:ation)?", "device", "invit(?:e|ation)", "login", "recovery"],
  ...["reset", "security", "verif(?:y|ication)", "mfa", "2[^a-z0-9]?fa", "sms", "one[^a-z0-9]?time"],
];
const SECRET = new RegExp(
  [
    ...ANYWHERE,
    `(?<![a-z0-9])(?:${WORDS.join("|")})(?![a-z])`,
    `(?:${KEY_OWNERS.join("|")})[^a-z0-9]?key(?!word|board)`,
    `(?:${CODE_USES.join("|")})[^a-z0-9]?code(?![a-z])|code[^a-z0-9]?verifier`,
  ].join("|"),
);
/**
 * Secrets in queries, forms and, most of them, JSON (RFC 6749 section 4.1.2), too ordinary elsewhere: whole names, without what is no
 * letter or digit. Of cards as forms for them name it (HTML, autofill field names), too.
 */
const FIELDS: ReadonlySet<string> = new Set([
  ...["key", "code", "pass", "pin", "ssn", "ccnumber", "ccnum", "ccno", "cccsc", "csc", "cvn"],
]);
/** The same, whatever stands in front of it: `billing_card_number`. */
const CARD_FIELD = /(?:(?:credit|debit)card|card(?:number|num|no)|(?:cvv|cvc)2?)$/;
/** A key or code of something, in a query or form: what is in front of the last separator says of what. */
const OF_SOMETHING = /(?<![a-z0-9])([a-z0-9]+)[^a-z0-9]+(?:key|code)[^a-z0-9]*$/;
/** Whose key or code lets nobody in; of what is not here it is hidden: a log that hides too much does less harm. */
const HARMLESS: ReadonlySet<string> = new Set(
  [
    "cache primary foreign partition row range sort group unique surrogate idempotency",
    "public object translation i18n socket websocket",
    "zip postal post area region state city country currency language lang locale",
    "iso airport iata icao status error err exit http response result return",
    "reason source color colour product item category type",
    "issue project search store char promo coupon key",
  ].flatMap((words) => words.split(" ")),
);
const ORDINARY_MEMBERS: ReadonlySet<string> = new Set(["key", "code"]);
const PUNCTUATION = /[^a-z0-9]/g;

/** Verdicts on names that come again and again, as those of header fields do; without them lines would cost twice as much. */
const MAX_KNOWN = 512;
const MAX_KNOWN_CHARS = 40;

/**
 * Whether what has this name lets somebody in, or tells who they are: of a header field, of anything, in whatever
 * spelling: `accessToken`, `X-Api-Key`, `client_secret`. The one list of the project.
 */
export const isSecretName = remembering((name) => {
  if (name.length > MAX_NAME_CHARS) return true;
  return SECRET.test(spaced(name));
});

/** The same for a parameter of a query or a field of a form, its name encoded or not. */
export const isSecretField = remembering((name) => {
  const plain = decodeParameter(name);
  if (isSecretName(plain) || isFieldOfSecret(bare(plain))) return true;
  const [, owner] = OF_SOMETHING.exec(spaced(plain)) ?? [];
  return owner !== undefined && !HARMLESS.has(owner);
});

/** The same for a member of JSON: a `key` or `code`, of whatever, is what most errors and lists of JSON have. */
export const isSecretMember = remembering((name) => {
  const plain = decodeParameter(name);
  return isSecretName(plain) || (isFieldOfSecret(bare(plain)) && !ORDINARY_MEMBERS.has(bare(plain)));
});

function isFieldOfSecret(name: string): boolean {
  return FIELDS.has(name) || CARD_FIELD.test(name);
}

function remembering(judge: (name: string) => boolean): (name: string) => boolean {
  const known = new Map<string, boolean>();
  return (name) => {
    if (name.length > MAX_KNOWN_CHARS) return judge(name);
    const before = known.get(name);
    if (before !== undefined) return before;
    const secret = judge(name);
    // Whoever sends ever new names makes it begin anew, and no more.
    if (known.size >= MAX_KNOWN) known.clear();
    // A copy: a piece of a text keeps all of that text in memory.
    known.set(Buffer.from(name).toString(), secret);
    return secret;
  };
}

/** A name or value of a query or form, plain; of what is not UTF-8, or was cut off within a character, the ASCII alone. */
export function decodeParameter(text: string): string {
  if (!text.includes("%") && !text.includes("+")) return text;
  const plain = text.replaceAll("+", " ");
  try {
    return decodeURIComponent(plain);
  } catch {
    return plain.replace(/%[0-7][0-9a-f]/gi, decodeURIComponent);
  }
}

/** In lower case, the words of `camelCase` apart. */
function spaced(name: string): string {
  return name.replace(CAMEL_CASE, "$1-$2").toLowerCase();
}

function bare(name: string): string {
  return name.toLowerCase().replace(PUNCTUATION, "");
}
