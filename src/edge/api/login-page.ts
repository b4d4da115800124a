import { createHash } from "node:crypto";

/** What the page shows. `key`: for whom the certificate is; undefined = nobody waits, so it is downloaded. */
export type LoginPage =
  | { readonly kind: "ask"; readonly key: string | undefined; readonly wrong?: string }
  | { readonly kind: "done" };

const STYLE = `
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}
body{max-width:34rem;margin:12vh auto;padding:0 1.25rem}
label,input{display:block;width:100%;box-sizing:border-box}
label{font-weight:600;margin-top:1.5rem}
input,button{font:inherit;padding:.5rem .75rem}
button{margin:1rem .5rem 0 0}
.wrong{border-left:.25rem solid #c62828;padding-left:.75rem}
code{overflow-wrap:anywhere}`;

/** The page runs nothing and loads nothing. The key is in its address, which goes to no other site. */
export const LOGIN_PAGE_HEADERS: Readonly<Record<string, string>> = {
  "Content-Type": "text/html; charset=utf-8",
  "Content-Security-Policy": `default-src 'none'; style-src 'sha256-${createHash("sha256").update(STYLE).digest("base64")}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'`,
  // With no-referrer a browser would hide the form's origin, too.
  "Referrer-Policy": "same-origin",
  "X-Frame-Options": "DENY",
};

export function renderLoginPage(page: LoginPage): string {
  const [title, content] =
    page.kind === "done"
      ? ["Logged in", "<p>Your terminal has its certificate in a moment. You can close this page.</p>"]
      : ["Log in to this edge", form(page)];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>${title} - Culvert</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>${title}</h1>
${content}
</main>
</body>
</html>
`;
}

/** `key` has only letters, digits, `-`, `_` and `=`; `wrong` is the edge's own text. */
function form({ key, wrong }: Extract<LoginPage, { kind: "ask" }>): string {
  const waiting =
    key === undefined
      ? "<p>You get a certificate, <code>cert.pem</code>, with which commands manage tunnels. Put it into <code>~/.cloudflared</code>.</p>"
      : `<p>Go on only if you have just started <code>tunnel login</code> yourself, and the address it shows ends with <code>${key.slice(-9)}</code>: whoever started it may do what your token may do.</p>`;
  const buttons =
    key === undefined
      ? '<button name="as" value="file">Download cert.pem</button>'
      : '<button name="as" value="callback">Log in</button>\n<button name="as" value="file">Download cert.pem instead</button>';
  return `${waiting}${wrong === undefined ? "" : `\n<p class="wrong" role="alert">${wrong}</p>`}
<form method="post" action="/login">
${key === undefined ? "" : `<input type="hidden" name="key" value="${key}">\n`}<label for="token">API token</label>
<input id="token" name="token" type="password" required autocomplete="off" autofocus aria-describedby="hint">
<p id="hint">The owner of the edge makes one with <code>culvert edge token create NAME</code>.</p>
${buttons}
</form>`;
}
