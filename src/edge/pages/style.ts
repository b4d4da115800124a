/** The style of all pages: colours of either scheme have a contrast of 4.5 to 1 or more (WCAG 2.2, 1.4.3). */
export const STYLE = `
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif;
--bg:#fff;--fg:#1b1f23;--soft:#565e67;--line:#d0d7de;--panel:#f5f7f9;--link:#0b57d0;--accent:#14532d;--on-accent:#fff;
--good:#14663a;--warn:#7a4a00;--bad:#a31515;--idle:#565e67}
@media (prefers-color-scheme:dark){:root{
--bg:#14171a;--fg:#e6e9ec;--soft:#a3acb5;--line:#3a424a;--panel:#1d2125;--link:#8ab4f8;--accent:#86efac;--on-accent:#10240f;
--good:#7ee2a8;--warn:#f0b860;--bad:#ff9a92;--idle:#a3acb5}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg)}
a{color:var(--link)}
header{display:flex;flex-wrap:wrap;gap:.5rem 1.5rem;align-items:center;padding:.6rem 1.25rem;border-bottom:1px solid var(--line);background:var(--panel)}
header .home{font-weight:700;color:inherit;text-decoration:none}
nav{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:center;margin-left:auto}
nav form{margin:0}
main{max-width:72rem;margin:0 auto;padding:1rem 1.25rem}
main:focus{outline:none}
footer{max-width:72rem;margin:2rem auto 1rem;padding:0 1.25rem;color:var(--soft);font-size:.85rem}
h1{font-size:1.5rem;margin:.5rem 0 1rem}
h2{font-size:1.15rem;margin:2rem 0 .5rem}
h3{font-size:1rem;margin:1.25rem 0 .25rem}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
.skip{position:absolute;left:-99rem}
.skip:focus{left:.5rem;top:.5rem;background:var(--bg);padding:.5rem;z-index:1}
.unseen{position:absolute;width:1px;height:1px;margin:-1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%}
caption{text-align:left;color:var(--soft);padding:.25rem 0}
th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
thead th{font-weight:600;color:var(--soft);white-space:nowrap}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td code,dd code{overflow-wrap:anywhere}
td form{margin:0}
code,pre,textarea.code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.9em}
pre{background:var(--panel);border:1px solid var(--line);border-radius:.4rem;padding:.75rem;overflow:auto;margin:.25rem 0;white-space:pre-wrap;overflow-wrap:anywhere;max-height:32rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem;margin:.5rem 0}
dt{color:var(--soft)}
dd{margin:0}
label{display:block;font-weight:600;margin:.75rem 0 .25rem}
input,select,textarea,button{font:inherit;color:inherit;background:var(--bg);border:1px solid var(--soft);border-radius:.35rem;padding:.4rem .65rem;min-height:2.25rem}
input[type=checkbox]{min-height:0;vertical-align:middle}
input[type=text],input[type=search],input[type=password]{width:100%;max-width:28rem}
textarea{width:100%}
button{cursor:pointer;background:var(--panel)}
button.first{background:var(--accent);color:var(--on-accent);border-color:var(--accent);font-weight:600}
button.danger{color:var(--bad);border-color:var(--bad)}
.row{display:flex;flex-wrap:wrap;gap:.75rem;align-items:end;margin:.75rem 0}
.row label{margin:0 0 .25rem}
.hint{color:var(--soft);margin:.25rem 0}
.note{border-left:.3rem solid var(--good);background:var(--panel);padding:.6rem .9rem;margin:.75rem 0}
.note.wrong{border-color:var(--bad)}
.stale{position:fixed;right:1rem;bottom:0;max-width:24rem;border:1px solid var(--bad);border-left-width:.3rem}
.state{font-weight:600;white-space:nowrap}
.state::before{content:"";display:inline-block;width:.65em;height:.65em;border-radius:50%;background:currentcolor;margin-right:.45em}
.healthy,.s2,.s3,.s1{color:var(--good)}.degraded,.s4{color:var(--warn)}.down,.s5,.s0{color:var(--bad)}.inactive{color:var(--idle)}
.state.inactive::before{background:none;border:2px solid currentcolor}
.logs{height:20rem;white-space:pre-wrap}
details{margin:.5rem 0}
summary{cursor:pointer}
@media (max-width:40rem){dl{grid-template-columns:1fr}dt{margin-top:.5rem}}
@media (prefers-reduced-motion:no-preference){button{transition:filter .1s}button:hover{filter:brightness(.95)}}
`;
