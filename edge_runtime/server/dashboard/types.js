// @ts-check
/**
 * The shapes that the API gives; see /api/openapi.json. Nothing is run here.
 *
 * @typedef {{threshold: number, by: "bundle"|"config"|"page"|"budget", min_duration: number, cooldown: number,
 *   budget_per_day: number|null, missing_segments: number}} Alarm
 * @typedef {{time: string, score: number, smoothed: number, p: number|null, anomalous: boolean}} Score
 * @typedef {{name: string, state: "online"|"stalled"|"offline"|"unwatched"|"starting", reason: string|null,
 *   detail: string|null, since: string|null, quality: string[], quality_since: Object<string, string>,
 *   paused: boolean, added: boolean, fps: number|null, score: Score|null, open_event: string|null, alarm: Alarm,
 *   picture: boolean}} Camera
 * @typedef {{camera: string, time: string, score: number, smoothed: number, anomalous: boolean}} LiveScore
 * @typedef {{id: string, camera: string, start: string, end: string|null, state: "open"|"ended", seconds: number,
 *   peak: number, mean: number, p: number|null, snapshot: boolean, clip: boolean, seen: boolean,
 *   mark: null|"false_alarm"|"missed", description: string|null, p?: number|null}} Event
 * @typedef {{step_s: number, scores: [number, number|null][]}} Scores
 * @typedef {{start: string, end: string, peak: number, event?: string|null, camera?: string}} Stretch
 * @typedef {{days: number, now: {alarms: number, per_day: number}, then: {alarms: number, per_day: number},
 *   gone: Stretch[], new: Stretch[]}} Trial
 * @typedef {{id: string|number, verdict: "false_alarm"|"missed", camera: string, start: string, end: string,
 *   event: string|null, at: string}} Mark
 * @typedef {{marks: Mark[], scorer: null|{number: number, accepted: string, marks: number}, can_undo: boolean}} Feedback
 * @typedef {{proposal: string, marks: number, false_alarms: number, days: number, wrong_before: number,
 *   wrong_left_out: number, loss_before: number|null, loss_left_out: number|null, kept: number, gone: Stretch[],
 *   new: Stretch[], replaces: number, changes?: boolean, gone_in_all?: number, new_in_all?: number}} Proposal
 *   `wrong_…` count marks.
 * @typedef {{run: string, started: string|null, time: string, version: string, bundle_id: string|null,
 *   role: "act"|"read", clips: boolean, feedback: boolean, days_of_scores: number}} Run
 * @typedef {{role: "act"|"read"|null, needs_token: boolean}} Session
 * @typedef {{root: HTMLElement, args: string[], query: URLSearchParams, signal: AbortSignal}} View
 */
export {};
