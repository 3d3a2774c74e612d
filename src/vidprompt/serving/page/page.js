// The page of `vidprompt app`: what people do, what is asked of the service, and where the answer goes.

import { clock, drawBars, drawFrames, drawSpans, percent } from "./drawing.js";
import { getModel, onTokenNeeded, post } from "./service.js";

const $ = (id) => document.getElementById(id);
const video = $("video");
let file = null;
let model = null;
let duration = 0;
let showTime = () => {};

// -- the video ------------------------------------------------------------------------------------------

function choose(chosen) {
  const problem = unusable(chosen);
  say($("video-error"), problem);
  if (problem) return;
  file = chosen;
  duration = 0;
  URL.revokeObjectURL(video.src);
  video.src = URL.createObjectURL(chosen);
  $("unplayable").hidden = true;
  $("video-name").textContent = chosen.name;
  $("video-size").textContent = megabytes(chosen.size);
  $("drop").hidden = true;
  $("player").hidden = false;
  for (const list of ["bars", "spans", "frames"]) $(list).replaceChildren();
  for (const message of document.querySelectorAll("form .message")) say(message, "");
  $("timeline").hidden = true;
  $("frames-note").hidden = true;
}

function unusable(chosen) {
  if (!chosen.size) return `${chosen.name} is empty, or it is a folder.`;
  const limit = model?.limits.upload_mb;
  if (limit && chosen.size > limit * 2 ** 20) {
    return `${chosen.name} has ${megabytes(chosen.size)}, and this server takes ${limit.toLocaleString()} MB.`;
  }
  return "";
}

function megabytes(bytes) {
  const value = bytes / 2 ** 20;
  return `${value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString()} MB`;
}

function durationWords(seconds) {
  const [size, unit] = seconds >= 5400 ? [3600, "hours"] : seconds >= 90 ? [60, "minutes"] : [1, "seconds"];
  return `${(seconds / size).toLocaleString(undefined, { maximumFractionDigits: 1 })} ${unit}`;
}

function seek(seconds) {
  if (!$("unplayable").hidden) return;
  video.currentTime = Math.max(0, Math.min(seconds, video.duration || seconds));
  video.scrollIntoView({ block: "nearest" });
}

$("file").addEventListener("change", (event) => event.target.files[0] && choose(event.target.files[0]));
$("another").addEventListener("click", () => {
  $("file").value = "";
  $("file").click();
});
video.addEventListener("loadedmetadata", () => {
  duration = Number.isFinite(video.duration) ? video.duration : 0;
  $("video-size").textContent = `${megabytes(file.size)}, ${clock(duration)}`;
});
video.addEventListener("error", () => {
  if (file) $("unplayable").hidden = false;
});
video.addEventListener("timeupdate", () => showTime(video.currentTime));

for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => event.relatedTarget || $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const [dropped] = event.dataTransfer.files;
  if (dropped) choose(dropped);
  else say($("video-error"), "What was dropped is no file: save the video first.");
});

// -- forms ----------------------------------------------------------------------------------------------

// Send a form's request: `request()` gives {path, fields, withVideo, onReport}, `show(answer)` the last sentence.
function onSubmit(form, request, show) {
  const button = form.querySelector("button[type=submit]");
  const message = form.querySelector(".message");
  const label = button.textContent;
  let running = null;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) {
      running.abort();
      return;
    }
    const { path, fields, withVideo, onReport } = request();
    if (withVideo && !file) {
      say(message, "Choose a video first.", true);
      $("file").focus();
      return;
    }
    running = new AbortController();
    button.textContent = "Cancel";
    form.setAttribute("aria-busy", "true");
    say(message, withVideo ? "Uploading …" : "Working …");
    try {
      const answer = await post(path, fields, withVideo ? file : null, {
        signal: running.signal,
        onUpload: (share) => say(message, share < 1 ? `Uploading, ${percent(share)} …` : "The model looks at the video …"),
        onReport: onReport && ((event) => say(message, onReport(event) ?? message.textContent)),
        onWait: (seconds) => say(message, `The server is busy: trying again in ${seconds} s …`),
      });
      say(message, await show(answer));
    } catch (error) {
      say(message, error.name === "AbortError" ? "Cancelled." : error.message, error.name !== "AbortError");
    } finally {
      running = null;
      button.textContent = label;
      form.removeAttribute("aria-busy");
    }
  });
}

function say(message, text, isError = false) {
  message.textContent = text;
  if (message.matches("form .message[role=status]")) message.classList.toggle("error", isError && text !== "");
  else message.hidden = !text;
}

function classes() {
  const text = $("classes").value.trim();
  const names = (text.includes("\n") ? text.split("\n") : text.split(",")).map((name) => name.trim());
  const given = names.filter(Boolean);
  return given.length ? { classes: JSON.stringify(given) } : {};
}

onSubmit(
  $("predict"),
  () => ({
    path: "predict",
    fields: { ...classes(), top: 10, unknown: $("unknown").checked },
    withVideo: true,
  }),
  (answer) => {
    const rows = answer.classes.map((one) => ({
      label: one.class,
      share: one.probability,
      value: percent(one.probability),
    }));
    drawBars($("bars"), rows);
    if (!$("explain-text").value) $("explain-text").placeholder = answer.classes[0].class;
    const best = answer.unknown
      ? "It shows none of these."
      : `${answer.label}, ${percent(answer.score)}.`;
    return [best, `Compared with ${SOURCES[answer.text] ?? answer.text}.`, answer.note].filter(Boolean).join(" ");
  },
);

const SOURCES = {
  "learned context": "the context that the model learned for these classes",
  descriptions: "descriptions of the classes",
  prompts: "sentences with the classes' names",
  "class names": "the classes' names",
};

onSubmit(
  $("segments"),
  () => ({
    path: "segments",
    fields: { ...classes(), window: $("window").value, stride: $("stride").value },
    withVideo: true,
    onReport: ({ seconds }) => seconds && `Looked at ${clock(seconds)}${duration ? ` of ${clock(duration)}` : ""} …`,
  }),
  (answer) => {
    const length = answer.duration_s || duration || 1;
    showTime = drawSpans($("track"), $("spans"), answer.spans, length, seek);
    $("scale-end").textContent = clock(length);
    $("timeline").hidden = false;
    showTime(video.currentTime || 0);
    if (!answer.spans.length) return "No class is clear enough anywhere: try other classes or a longer window.";
    return `${answer.spans.length} ${answer.spans.length === 1 ? "part" : "parts"} in ${clock(length)}.`;
  },
);

onSubmit(
  $("explain"),
  () => ({
    path: "explain",
    fields: $("explain-text").value.trim() ? { text: $("explain-text").value.trim() } : {},
    withVideo: true,
  }),
  async (answer) => {
    await drawFrames($("frames"), answer, seek);
    $("frames-note").hidden = false;
    const best = answer.frames.reduce((a, b) => (b.share > a.share ? b : a));
    return `The frame at ${clock(best.time_s)} counts most, ${percent(best.share)}.`;
  },
);

onSubmit(
  $("search"),
  () => ({
    path: "search",
    fields: { ...($("search-text").value.trim() ? { text: $("search-text").value.trim() } : {}), top: 20 },
    withVideo: $("like").checked,
  }),
  (answer) => {
    const rows = answer.hits.map((hit) => {
      const cut = hit.video.lastIndexOf("/") + 1;
      const times = hit.end === undefined ? "" : `${clock(hit.start)} – ${clock(hit.end)}`;
      const detail = [times, hit.video.slice(0, cut)].filter(Boolean).join(" in ");
      return { label: hit.video.slice(cut), detail, share: hit.score, value: hit.score.toFixed(3) };
    });
    drawBars($("hits"), rows);
    return `${rows.length} of ${answer.rows.toLocaleString()}, by cosine similarity.`;
  },
);

// -- the token and the start ----------------------------------------------------------------------------

onTokenNeeded(
  (wrong) =>
    new Promise((resolve) => {
      const dialog = $("token-dialog");
      say($("token-error"), wrong ? "The token is wrong." : "");
      $("token").value = "";
      dialog.returnValue = "";
      dialog.onclose = () => resolve($("token").value.trim() || null);
      dialog.oncancel = () => {
        $("token").value = "";
      };
      dialog.showModal();
    }),
);

function present() {
  const { limits } = model;
  $("model").textContent = `${model.model}: ${model.method} on ${model.backbone}, ${model.num_frames} frames`;
  $("drop-hint").textContent = `Up to ${limits.upload_mb.toLocaleString()} MB and ${durationWords(limits.seconds)}.`;
  $("limits").textContent =
    `VidPrompt ${model.version} on ${model.device}. Videos are decoded on the server and removed at once.`;
  $("unknown-choice").hidden = !model.unknown;
  if (model.classes.length) {
    $("classes").placeholder = model.classes.slice(0, 3).join("\n");
    $("classes-hint").textContent =
      `A line each, or with commas. Empty: the ${model.classes.length} classes of the training.`;
  }
  if (model.index_rows !== null && model.index_rows !== undefined) {
    $("search-card").hidden = false;
    $("search-title").textContent = `Search ${model.index_rows.toLocaleString()} videos`;
  }
}

try {
  model = await getModel();
  present();
} catch (error) {
  say($("page-error"), error.message);
}
document.documentElement.dataset.ready = "true"; // for tests
