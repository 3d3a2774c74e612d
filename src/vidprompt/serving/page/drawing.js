// Draws answers: bars of classes and hits, the time line, and frames with what counts in them.

const COLOURS = 6;

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

export function percent(share) {
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  return `${(100 * share).toFixed(share > 0.0995 || share === 0 ? 0 : 1)} %`;
}

export function clock(seconds) {
  const whole = Math.floor(seconds);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const rest = String(whole % 60).padStart(2, "0");
  const tenth = seconds < 60 ? `.${Math.floor(10 * (seconds - whole))}` : "";
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}${tenth}`;
}

// `rows`: [{label, detail (may be missing), share (0 to 1), value}]
export function drawBars(list, rows) {
  list.replaceChildren(
    ...rows.map(({ label, detail, share, value }) => {
      const item = element("li");
      const bar = element("div", "bar");
      bar.setAttribute("aria-hidden", "true");
      const filled = element("span");
      filled.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
      bar.append(filled);
      const name = element("span", "label", label);
      if (detail) name.append(element("span", "detail", detail));
      item.append(name, element("span", "value", value), bar);
      return item;
    }),
  );
}

// The spans on the track and in the list below it; a click calls `seek(seconds)`.
export function drawSpans(track, list, spans, duration, seek) {
  const labels = [...new Set(spans.map((span) => span.label))];
  const colour = (span) => `k${labels.indexOf(span.label) % COLOURS}`;
  const playhead = element("div", "playhead");
  playhead.setAttribute("aria-hidden", "true");
  const inTrack = spans.map((span) => {
    const button = element("button", colour(span), span.label);
    button.type = "button";
    button.style.left = `${(100 * span.start) / duration}%`;
    button.style.width = `${(100 * Math.max(0, span.end - span.start)) / duration}%`;
    button.setAttribute("aria-label", sentence(span));
    button.title = sentence(span);
    button.addEventListener("click", (event) => {
      // a click with the mouse goes to its place, one with the keyboard to the part's start
      const box = track.getBoundingClientRect();
      seek(event.detail ? ((event.clientX - box.left) / box.width) * duration : span.start);
      event.stopPropagation();
    });
    return button;
  });
  track.replaceChildren(...inTrack, playhead);
  track.onclick = (event) => {
    const box = track.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * duration);
  };
  const inList = spans.map((span) => {
    const item = element("li");
    const button = element("button");
    button.type = "button";
    button.append(
      element("span", `swatch ${colour(span)}`),
      element("span", "time", `${clock(span.start)} – ${clock(span.end)}`),
      element("span", "label", span.label),
      element("span", "value", percent(span.score)),
    );
    button.addEventListener("click", () => seek(span.start));
    item.append(button);
    return item;
  });
  list.replaceChildren(...inList);

  return function showTime(seconds) {
    playhead.style.left = `${(100 * Math.min(seconds, duration)) / duration}%`;
    spans.forEach((span, k) => {
      const current = span.start <= seconds && seconds < span.end;
      inList[k].firstChild.setAttribute("aria-current", String(current));
    });
  };
}

function sentence(span) {
  return `${span.label}, ${clock(span.start)} to ${clock(span.end)}, ${percent(span.score)}`;
}

// The frames of an explanation: pictures with warm places where the relevance is, and each frame's share.
export async function drawFrames(list, answer, seek) {
  const { frames } = answer;
  const most = Math.max(...frames.map((frame) => Math.max(...frame.places.flat())), 1e-9);
  const even = 1 / (frames.length * frames[0].places.flat().length);
  const largest = Math.max(...frames.map((frame) => frame.share), 1e-9);
  const items = frames.map(async (frame) => {
    const item = element("li");
    const button = element("button");
    button.type = "button";
    const canvas = element("canvas");
    const share = element("span", "share");
    const filled = element("span");
    filled.style.width = `${(100 * frame.share) / largest}%`;
    share.append(filled);
    const meta = element("span", "meta");
    meta.append(element("span", "", clock(frame.time_s)), element("span", "", percent(frame.share)));
    button.setAttribute("aria-label", `Frame at ${clock(frame.time_s)}, ${percent(frame.share)} of the answer`);
    button.append(canvas, share, meta);
    button.addEventListener("click", () => seek(frame.time_s));
    item.append(button);
    await paint(canvas, frame, answer, even, most);
    return item;
  });
  list.replaceChildren(...(await Promise.all(items)));
}

async function paint(canvas, frame, { seen, frame_size: whole }, even, most) {
  const image = new Image();
  image.src = frame.picture;
  await image.decode();
  canvas.width = Math.max(320, image.naturalWidth);
  canvas.height = Math.round((canvas.width * image.naturalHeight) / image.naturalWidth);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const rows = frame.places.length;
  const columns = frame.places[0].length;
  const heat = new OffscreenCanvas(columns, rows);
  const cells = new ImageData(columns, rows);
  frame.places.forEach((row, y) =>
    row.forEach((value, x) => {
      const share = Math.max(0, (value - even) / Math.max(most - even, 1e-9)); // below an even share: clear
      cells.data.set([255, Math.round(200 * (1 - share)), 0, Math.round(200 * share ** 0.7)], 4 * (y * columns + x));
    }),
  );
  heat.getContext("2d").putImageData(cells, 0, 0);
  context.imageSmoothingQuality = "high";
  const [x, y] = [canvas.width / whole.width, canvas.height / whole.height];
  const [width, height] = [(seen.right - seen.left) * x, (seen.bottom - seen.top) * y];
  context.drawImage(heat, seen.left * x, seen.top * y, width, height);
}
