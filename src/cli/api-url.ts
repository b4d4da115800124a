/** Where the API begins, at Cloudflare and at every edge. */
const PATH = "/client/v4";

/** What `--api-url` names, without a slash at the end; undefined for what is no such URL. Without a path it gets the usual one. */
export function readApiUrl(text: string): string | undefined {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return undefined;
  const url = new URL(text);
  if (url.search !== "" || url.hash !== "" || url.username !== "" || url.password !== "") return undefined;
  return url.origin + (url.pathname.replace(/\/+$/, "") || PATH);
}

export function apiUrlProblem(text: string): string {
  return `--api-url "${text}" must be a URL such as https://edge.example.com:7845`;
}
