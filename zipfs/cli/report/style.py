"""The style sheet and the script of a report.

The script only sorts and filters tables: without it everything is there all the same.
"""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--bg:#fbfbf9;--card:#fff;--fg:#1c2227;--mute:#67727c;--line:#dfe3e6;--tie:#b6bfc7;
--link:#1f5fa8;--h0:transparent;--h1:#eef7e3;--h2:#dcf0cf;--h3:#bfe5c3;--h4:#93d6c0;--h5:#66c4c3;--h6:#43adc6;
--h7:#237aa8;--h8:#225a9c;--h9:#243c86;--h10:#161f58;--low:#1c2227;--high:#fff;
--w0:#3fa66b;--w1:#3b82c4;--w2:#17a2ac;--w3:#8e6bc4;--w4:#e08b3a;--w5:#97a1ab;--w6:#d15b7a}
@media(prefers-color-scheme:dark){:root{--bg:#12161a;--card:#191f25;--fg:#e3e7ea;--mute:#93a0ab;--line:#2c353d;
--tie:#4a5763;--link:#7db8f2;--h1:#14273a;--h2:#15324a;--h3:#16425b;--h4:#18566b;--h5:#1e6d76;--h6:#2c857c;
--h7:#5aab86;--h8:#8cc487;--h9:#c3d98d;--h10:#f6ec9f;--low:#eef2f4;--high:#0e1418}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:26px;margin:0;overflow-wrap:anywhere}h2{font-size:20px;margin:44px 0 8px}
details{border-top:1px solid var(--line);padding:10px 0}
summary{cursor:pointer;font-size:17px;font-weight:600;overflow-wrap:anywhere;padding:4px 0}
summary span{display:block;font-size:14px;font-weight:400;color:var(--mute);padding-left:17px}
.beside{display:flex;flex-wrap:wrap;gap:0 36px}.beside>div{min-width:0}.fit{width:fit-content}
h4{font-size:14px;margin:22px 0 6px}
p{margin:4px 0 10px;max-width:76ch}a{color:var(--link)}.mute{color:var(--mute)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(138px,1fr));gap:12px;margin:20px 0}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.tiles b{display:block;font-size:22px;line-height:1.25;font-variant-numeric:tabular-nums}
.tiles span{color:var(--mute);font-size:13px}
.bar{display:flex;height:12px;width:100%;min-width:90px;border-radius:3px;overflow:hidden;background:var(--line)}
.bar i{display:block;min-width:1px}.big{margin:2px 0 12px}.big .bar{height:24px}
.w0{background:var(--w0)}.w1{background:var(--w1)}.w2{background:var(--w2)}.w3{background:var(--w3)}
.w4{background:var(--w4)}.w5{background:var(--w5)}.w6{background:var(--w6)}
.key{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;vertical-align:-1px}
.keys{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:13px;color:var(--mute);margin:6px 0 12px}
.cards{display:flex;flex-wrap:wrap;gap:14px;align-items:stretch}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px;display:flex;
flex-direction:column;align-items:center;justify-content:space-between;gap:8px;max-width:100%;
overflow:hidden;flex:1 1 190px}
figure.large{flex-basis:310px}figure text{font-size:12px;fill:var(--fg)}
figure svg{max-width:100%;height:auto;margin:auto;overflow:visible}
figcaption{font-size:13px;text-align:center;max-width:340px;
overflow-wrap:anywhere}figcaption span{display:block;color:var(--mute)}
.tie{fill:none;stroke:var(--tie);stroke-width:1}.other{stroke-dasharray:3 3}
circle{stroke:var(--tie);stroke-width:1}circle.root{stroke:var(--fg);stroke-width:2}
.scroll{overflow-x:auto;max-width:100%;background:var(--card);border:1px solid var(--line);border-radius:10px;
margin:6px 0 14px}
table{border-collapse:collapse;font-size:13px;width:100%}
th,td{padding:4px 10px;text-align:left;white-space:nowrap;border-bottom:1px solid var(--line)}
tbody tr:last-child td,tbody tr:last-child th{border-bottom:0}
th{font-weight:600;color:var(--mute)}.n{text-align:right;font-variant-numeric:tabular-nums}
td.name{max-width:420px;overflow:hidden;text-overflow:ellipsis}
td.bars{width:26%;min-width:120px}.tree{color:var(--mute);white-space:pre;font-family:ui-monospace,"DejaVu Sans Mono",
monospace}
div.sortable{max-height:640px;overflow:auto}.sortable thead th{position:sticky;top:0;background:var(--card);
cursor:pointer;z-index:1}td.rest{color:var(--mute)}.sortable th:hover{color:var(--fg)}
.grid{width:auto}.grid td{padding:0;min-width:30px;height:24px;text-align:center;font-size:11px;
font-variant-numeric:tabular-nums;border:1px solid var(--card)}
.grid th{padding:2px 8px;border:0;font-weight:400}.grid tbody th{position:sticky;left:0;background:var(--card);
color:var(--fg);max-width:230px;overflow:hidden;text-overflow:ellipsis}.grid tbody th.mute{color:var(--mute)}
.grid thead th{text-align:center;padding:4px 2px;vertical-align:bottom}.grid thead th.kind{height:100px}
.kind span{writing-mode:vertical-rl;transform:rotate(180deg);display:inline-block}
.h0,.h1,.h2,.h3,.h4,.h5,.h6{color:var(--low)}.h7,.h8,.h9,.h10{color:var(--high)}.h0{color:var(--mute)}
td.h1,.key.h1{background:var(--h1)}td.h2,.key.h2{background:var(--h2)}td.h3,.key.h3{background:var(--h3)}
td.h4,.key.h4{background:var(--h4)}td.h5,.key.h5{background:var(--h5)}td.h6,.key.h6{background:var(--h6)}
td.h7,.key.h7{background:var(--h7)}td.h8,.key.h8{background:var(--h8)}td.h9,.key.h9{background:var(--h9)}
td.h10,.key.h10{background:var(--h10)}
circle.h1{fill:var(--h1)}circle.h3{fill:var(--h3)}circle.h5{fill:var(--h5)}circle.h6{fill:var(--h6)}
circle.h8{fill:var(--h8)}circle.h10{fill:var(--h10)}
.key.h0{border:1px solid var(--line)}
input{font:inherit;padding:6px 10px;border:1px solid var(--line);border-radius:8px;background:var(--card);
color:var(--fg);width:min(100%,340px);margin:2px 0 4px}
footer{margin-top:48px;color:var(--mute);font-size:13px}
@media(max-width:640px){main{padding:16px 12px 40px}h1{font-size:22px}.tiles{grid-template-columns:1fr 1fr;gap:8px}
.tiles b{font-size:18px}.wide,.tree{display:none}td.name{max-width:35vw}.grid tbody th{max-width:34vw;padding:2px 6px}
.grid.single tbody th{max-width:70vw}
th,td{padding:4px 6px}td.bars{min-width:64px}.bar{min-width:52px}figure{flex-basis:100%}}
@media print{.scroll,div.sortable{overflow:visible;max-height:none}}
"""

SCRIPT: Final = """
for(const table of document.querySelectorAll('table.sortable')){
const body=table.tBodies[0],heads=[...table.tHead.rows[0].cells];
heads.forEach((head,at)=>{let down=false;head.addEventListener('click',()=>{down=!down;
const value=row=>{const cell=row.cells[at];return cell.dataset.v===undefined?cell.textContent:+cell.dataset.v};
const rows=[...body.rows].filter(row=>!row.querySelector('.rest'));
rows.sort((a,b)=>{const x=value(a),y=value(b);return(x<y?-1:x>y?1:0)*(down&&typeof x==='number'?-1:down?1:
typeof x==='number'?1:-1)});
body.prepend(...rows)})})}
const open=()=>{const found=/^#f\\d+$/.test(location.hash)&&document.querySelector(location.hash);
if(found)found.open=true};addEventListener('hashchange',open);open();
for(const input of document.querySelectorAll('input[data-for]')){input.hidden=false;
const body=document.getElementById(input.dataset.for).querySelector('tbody');
input.addEventListener('input',()=>{const wanted=input.value.toLowerCase();
for(const row of body.rows)row.hidden=!row.cells[0].title.toLowerCase().includes(wanted)
&&!row.textContent.toLowerCase().includes(wanted)})}
"""
