import { formatAddress } from "../net/socket-errors.ts";
import type { SeenCertificate } from "../net/sockets.ts";
import type { EdgeAddress } from "../supervisor/addresses.ts";
import type { EdgeProbes, TcpProbe, UdpProbe } from "./edge-probe.ts";
import { type CheckResult, type Finding, finding, judged, skipped } from "./finding.ts";

/** A round trip that people notice in a terminal, in ms. */
const FAR_MS = 200;
/** Payload of the first packets of QUIC (RFC 9000 section 14.1) with the headers of UDP and IPv6. */
const QUIC_MTU = 1_248;

/** How the connector would go. */
export interface EdgeWay {
  readonly protocol: "auto" | "quic" | "http2";
  /** The proxy, without its credentials; undefined = none. */
  readonly proxy: string | undefined;
  /** Name that the edge's certificate must carry on TCP. */
  readonly tlsServerName: string;
  /**
   * The authority of an edge of one's own comes with the tunnel's token, and there is none that can be used: that the
   * edge is not trusted then only follows from that.
   */
  readonly lacksToken: boolean;
}

/** What the lookup of the edge gave. */
export type Found =
  | {
      readonly kind: "found";
      readonly addresses: readonly EdgeAddress[];
      /** Why this machine's name servers were no help; undefined = they were, or were not needed. */
      readonly systemFailure: string | undefined;
    }
  | { readonly kind: "failed"; readonly why: string };

export function checkDns(found: Found, source: "static" | "cloudflare"): CheckResult {
  if (found.kind === "failed") {
    const todo =
      source === "static"
        ? "Correct the name of the edge, or make DNS work on this machine (/etc/resolv.conf)"
        : "Make DNS work on this machine (/etc/resolv.conf), or allow DNS over TLS to 1.1.1.1:853";
    return judged([finding("C-201", found.why, todo)], "");
  }
  const regions = new Set(found.addresses.map(({ region }) => region));
  const few = source === "cloudflare" && regions.size < 2;
  const seen = `${count(new Set(found.addresses.map(({ host }) => host)).size, "address")} in ${count(regions.size, "region")}`;
  const findings: Finding[] = few
    ? [finding("C-202", `DNS gives ${seen}`, "Ask who runs the name server why part of argotunnel.com is missing")]
    : [];
  if (found.systemFailure !== undefined) {
    findings.push(
      finding(
        "C-203",
        `The system's resolver says: ${found.systemFailure}`,
        "Correct /etc/resolv.conf; until then the connector asks over TLS, or uses the names that still work",
      ),
    );
  }
  return judged(findings, seen);
}

export function checkNetwork({ tcp, udp }: EdgeProbes, way: EdgeWay): CheckResult {
  const { protocol, proxy } = way;
  const tcpUp = tcp.filter(({ connectMs }) => connectMs !== undefined);
  const udpUp = udp.filter(({ end }) => end !== "silent");
  const where = placesOf(tcp);
  const findings: Finding[] = [];
  if (proxy !== undefined && protocol === "quic") {
    findings.push(
      finding(
        "C-222",
        `--protocol quic is set, and the way to the edge is proxy ${proxy}`,
        "Use --protocol http2 or auto",
      ),
    );
  }
  if (tcpUp.length === 0 && udpUp.length === 0) findings.push(nothingGetsThrough(tcp, way, where));
  else {
    if (udp.length > 0 && udpUp.length === 0) {
      findings.push(
        finding(
          "C-211",
          `UDP to ${where} gets no answer, TCP does${protocol === "auto" ? ": the connector falls back to HTTP/2" : ""}`,
          `Ask for outbound UDP to port ${portsOf(udp)} to be allowed${protocol === "quic" ? ", or use --protocol http2" : ", or set --protocol http2 to connect at once"}`,
          protocol === "quic" ? "fail" : "warn",
        ),
      );
    }
    if (tcpUp.length === 0 && protocol !== "quic") {
      findings.push(
        finding(
          "C-212",
          `TCP to ${where} does not connect, UDP gets through${protocol === "auto" ? ": there is no way but QUIC" : ""}`,
          `Ask for outbound TCP to port ${portsOf(tcp)} to be allowed${protocol === "http2" ? ", or use --protocol quic" : ""}`,
          protocol === "http2" ? "fail" : "warn",
        ),
      );
    }
    findings.push(...partly(tcp, udp));
  }
  const nearestMs = Math.min(...tcpUp.map(({ connectMs }) => connectMs ?? Number.POSITIVE_INFINITY));
  if (Number.isFinite(nearestMs) && nearestMs > FAR_MS) {
    findings.push(
      finding(
        "C-216",
        `Connecting to the nearest address of the edge takes ${Math.round(nearestMs)} ms: every keystroke of SSH takes that long`,
        "Choose an edge or --region that is nearer, or find out with traceroute where the time is spent",
      ),
    );
  }
  const took = Number.isFinite(nearestMs) ? `, ${Math.round(nearestMs)} ms away` : "";
  const ways = [...(udpUp.length > 0 ? ["UDP"] : []), ...(tcpUp.length > 0 ? ["TCP"] : [])].join(" and ");
  return judged(findings, `${ways} to ${where}${proxy === undefined ? "" : ` through ${proxy}`}${took}`);
}

function nothingGetsThrough(tcp: readonly TcpProbe[], { proxy }: EdgeWay, where: string): Finding {
  const [first] = tcp;
  if (proxy !== undefined && tcp.some(({ end }) => end === "proxy")) {
    return finding(
      "C-221",
      `Proxy ${proxy} does not lead to ${where}: ${first?.detail ?? ""}`,
      "Correct --edge-proxy or HTTPS_PROXY, its user name and password, or have the proxy allow CONNECT to the edge",
    );
  }
  if (tcp.every(({ end }) => end === "refused")) {
    return finding(
      "C-214",
      `${where} refuses TCP, and UDP gets no answer`,
      "Start the edge, correct --edge, or have the firewall that rejects it opened",
    );
  }
  return finding(
    "C-213",
    `Neither TCP nor UDP to ${where} gets an answer (${first?.detail ?? "no answer"})`,
    `Ask for outbound TCP and UDP to port ${portsOf(tcp)} to be allowed, or set HTTPS_PROXY when this network has a proxy`,
  );
}

/** Addresses that stand alone with their trouble; a family without any route is no trouble while the other has one. */
function partly(tcp: readonly TcpProbe[], udp: readonly UdpProbe[]): readonly Finding[] {
  const up = new Set([
    ...tcp.filter(({ connectMs }) => connectMs !== undefined).map(placeOf),
    ...udp.filter(({ end }) => end !== "silent").map(placeOf),
  ]);
  const routed = new Set(tcp.filter((probe) => up.has(placeOf(probe))).map(({ address }) => address.family));
  const down = tcp.filter(
    (probe) => !up.has(placeOf(probe)) && !(probe.end === "unreachable" && !routed.has(probe.address.family)),
  );
  if (down.length === 0) return [];
  return [
    finding(
      "C-215",
      `${placesOf(down)} cannot be reached, ${count(up.size, "other address", "other addresses")} can`,
      "Look at the route to it, or take it out of --edge; the connector uses the others",
    ),
  ];
}

export function checkTls({ tcp, udp }: EdgeProbes, way: EdgeWay): CheckResult {
  const connected = tcp.filter(({ connectMs }) => connectMs !== undefined);
  const distrusted = connected.filter(({ certificate }) => certificate?.distrust !== undefined);
  const quicWorks = udp.some(({ end }) => end === "reached");
  const findings: Finding[] = [];
  const [bad] = distrusted;
  if (bad?.certificate !== undefined) findings.push(...distrust(bad, bad.certificate, quicWorks, way));
  else if (udp.some(({ end }) => end === "tls")) {
    const detail = udp.find(({ end }) => end === "tls")?.detail ?? "";
    findings.push(distrusts(`Over QUIC: ${detail}`, way));
  }
  const noTls = connected.find(({ end }) => end === "no-tls");
  if (noTls !== undefined) {
    findings.push(
      finding(
        "C-235",
        `${placeOf(noTls)} takes connections and does not speak TLS (${noTls.detail})`,
        "Correct --edge: it wants the edge's port for connectors; else look for a proxy or a login page in between",
      ),
    );
  }
  const cut = connected.find(({ end }) => end === "cut");
  if (cut !== undefined) {
    findings.push(
      finding(
        "C-236",
        `${placeOf(cut)} takes connections and hangs up during the TLS handshake (${cut.detail})`,
        `Have the firewall that looks into TLS let ${way.tlsServerName} through${quicWorks ? "; QUIC works meanwhile" : ""}`,
        quicWorks ? "warn" : "fail",
      ),
    );
  }
  const shown = connected.find(({ certificate }) => certificate !== undefined)?.certificate;
  if (findings.length === 0 && shown === undefined && !quicWorks) return skipped("no TLS handshake came about");
  return judged(findings, shown === undefined ? "trusted, over QUIC" : `trusted, certificate from "${shown.issuer}"`);
}

function distrusts(message: string, { lacksToken }: EdgeWay): Finding {
  if (lacksToken) {
    const todo = "Mend the tunnel's token or credentials first: the authority comes with them; --cacert gives it, too";
    return finding("C-232", message, todo, "warn");
  }
  return finding("C-232", message, "Give the edge's own authority with --cacert, or get a new token from the edge");
}

function distrust(probe: TcpProbe, seen: SeenCertificate, quicWorks: boolean, way: EdgeWay): readonly Finding[] {
  const { tlsServerName } = way;
  const place = placeOf(probe);
  switch (seen.distrust) {
    case "not-yet-valid":
      // The clock's check tells of it.
      return [];
    case "expired":
      return [
        finding(
          "C-234",
          `The certificate of ${place} was valid until ${new Date(seen.toMs).toISOString()}`,
          "Renew the edge's certificate; if that date is in the future, set this machine's clock",
        ),
      ];
    case "name":
      return [
        finding(
          "C-233",
          `${place} shows a certificate for ${seen.names.join(", ")}, and not for ${tlsServerName}`,
          `Correct --edge, or give the edge a certificate that names ${tlsServerName}`,
        ),
      ];
    default:
      return [ofStranger(place, seen, quicWorks, way)];
  }
}

/** An edge of one's own that was made anew looks the same as somebody in between, but for the name of its authority. */
function ofStranger(place: string, seen: SeenCertificate, quicWorks: boolean, way: EdgeWay): Finding {
  const { proxy } = way;
  const known = /^(?:culvert edge|cloudflare)/i.test(seen.issuer);
  if (known && !quicWorks) {
    return distrusts(`${place} shows a certificate from "${seen.issuer}", which is not trusted here`, way);
  }
  const who = proxy === undefined ? "a firewall or virus scanner" : `proxy ${proxy}, a firewall or virus scanner`;
  return finding(
    "C-231",
    `${place} shows a certificate from "${seen.issuer}"${quicWorks ? ", while QUIC shows the edge's own" : ""}: ${who} opens the connection`,
    `Have TLS inspection leave out ${place}; trusting "${seen.issuer}" with --cacert would let it read everything`,
    quicWorks ? "warn" : "fail",
  );
}

/** `mtuOf`: of the interface that has this address; undefined = unknown. */
export function checkMtu(
  { tcp, udp }: EdgeProbes,
  mtuOf: (localIp: string | undefined) => number | undefined,
): CheckResult {
  const stalled = tcp.filter(({ end }) => end === "stalled");
  const handshakes = tcp.filter(({ end }) => end === "reached");
  const quicWorks = udp.some(({ end }) => end === "reached");
  const [first] = stalled;
  if (first !== undefined && handshakes.length === 0) {
    return judged(
      [
        finding(
          "C-241",
          `${placeOf(first)} connects at once, and the TLS handshake gets no answer: packets of full size get lost on the way`,
          "Lower the MTU of this machine's network interface (ip link set dev IF mtu 1280), or let ICMP through on the way",
          quicWorks ? "warn" : "fail",
        ),
      ],
      "",
    );
  }
  if (handshakes.length === 0 && !quicWorks) return skipped("no connection to measure");
  const mtu = mtuOf(handshakes[0]?.localIp);
  if (mtu !== undefined && mtu < QUIC_MTU) {
    return judged(
      [
        finding(
          "C-242",
          `The network interface takes packets of ${mtu} bytes, and QUIC needs ${QUIC_MTU}`,
          "Raise its MTU, or set --protocol http2",
        ),
      ],
      "",
    );
  }
  return judged([], mtu === undefined ? "handshakes get through" : `handshakes get through, MTU ${mtu}`);
}

function placeOf({ address: { host, port } }: { readonly address: EdgeAddress }): string {
  return formatAddress({ host, port });
}

const SHOWN_PLACES = 3;

function placesOf(probes: readonly TcpProbe[]): string {
  const shown = probes.slice(0, SHOWN_PLACES).map(placeOf).join(", ");
  return probes.length > SHOWN_PLACES ? `${shown} and ${probes.length - SHOWN_PLACES} more` : shown;
}

function portsOf(probes: readonly { readonly address: EdgeAddress }[]): string {
  return [...new Set(probes.map(({ address }) => address.port))].join(", ");
}

function count(n: number, one: string, many = one.endsWith("s") ? `${one}es` : `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}
