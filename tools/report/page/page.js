'use strict';
(() => {
  document.documentElement.classList.add('scripted');
  // Print shows what is folded away.
  let folded = [];
  addEventListener('beforeprint', () => {
    folded = [...document.querySelectorAll('details:not([open])')];
    for (const d of folded) d.open = true;
  });
  addEventListener('afterprint', () => { for (const d of folded) d.open = false; });

  const source = document.getElementById('data');
  if (!source) return;
  const lanes = JSON.parse(source.textContent).lanes;
  if (lanes.length === 0) return;
  const get = id => document.getElementById(id);
  const row = get('row'), lane = get('lane'), step = get('step'), text = get('text'), says = get('says');
  const letters = [...text.children], T = letters.length;
  const digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const rows = new Map();
  for (const l of lanes) rows.set(l.row, [...(rows.get(l.row) || []), l]);
  for (const name of rows.keys()) row.add(new Option(name, name));
  if (rows.has(text.dataset.first)) row.value = text.dataset.first;

  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = T;
  canvas.setAttribute('role', 'img');
  get('lives').replaceChildren(canvas);
  let lives = [], cursor = 0;

  const shown = () => rows.get(row.value)[+lane.value];
  function draw() {
    const style = getComputedStyle(document.documentElement);
    const pen = canvas.getContext('2d');
    pen.clearRect(0, 0, T, T);
    pen.fillStyle = style.getPropertyValue('--accent');
    for (let p = 0; p < T; ++p) pen.fillRect(p, p, lives[p], 1);
    pen.fillStyle = style.getPropertyValue('--ink');
    pen.fillRect(+step.value - 1, 0, Math.max(1, T / 400), T);
    canvas.setAttribute('aria-label', 'Kept positions over time: ' + row.value + ', ' + shown().name);
  }
  function mark() {
    const t = +step.value - 1;
    let alive = 0;
    letters.forEach((s, p) => {
      const here = p <= t && t < p + lives[p];
      alive += here;
      s.classList.toggle('gone', t < T - 1 && !here);
    });
    get('step-name').textContent = step.value + ' of ' + T + ': ' + alive + ' kept';
  }
  function shade() {
    const packed = shown().lives;
    lives = letters.map((_, p) => 64 * digits.indexOf(packed[2 * p]) + digits.indexOf(packed[2 * p + 1]));
    letters.forEach((s, p) => s.style.setProperty('--s', (lives[p] / (T - p)).toFixed(2)));
    get('lane-name').textContent = shown().name;
    get('lives-name').textContent = row.value + ', ' + shown().name;
    draw();
    mark();
  }
  function choose() {
    lane.max = rows.get(row.value).length - 1;
    lane.disabled = lane.max === '0';
    lane.value = Math.min(+lane.value, +lane.max);
    shade();
  }
  function tell(p, moved) {
    letters[cursor].classList.remove('here');
    cursor = Math.min(T - 1, Math.max(0, p));
    letters[cursor].classList.add('here');
    const what = letters[cursor].textContent.trim() || 'blank', end = cursor + lives[cursor];
    says.textContent = 'Position ' + cursor + ', "' + what + '": ' +
        (end >= T ? 'kept to the end (' + lives[cursor] + ' steps)' : 'lived ' + lives[cursor] + ' steps, forgotten at ' + end) + '.';
    if (moved) letters[cursor].scrollIntoView({block: 'nearest'});
  }
  row.addEventListener('change', choose);
  lane.addEventListener('input', shade);
  step.addEventListener('input', () => { draw(); mark(); });
  text.addEventListener('pointerover', e => { const p = letters.indexOf(e.target); if (p >= 0) tell(p); });
  text.addEventListener('keydown', e => {
    const by = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 40, ArrowUp: -40, Home: -T, End: T}[e.key];
    if (!by) return;
    e.preventDefault();
    tell(cursor + by, true);
  });
  canvas.addEventListener('pointermove', e => tell(Math.floor(e.offsetY / canvas.clientHeight * T)));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  choose();
})();
