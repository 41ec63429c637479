// Numbers as people read them.

const NONE = "–";
const known = (value) => typeof value === "number" && Number.isFinite(value);
const form = (options) => {
  const format = new Intl.NumberFormat("en", options);
  return (value) => (known(value) ? format.format(value) : NONE);
};

export const count = form({ maximumFractionDigits: 0 });
export const fraction = form({ minimumFractionDigits: 2, maximumFractionDigits: 2 });
export const signed = form({ minimumFractionDigits: 3, maximumFractionDigits: 3, signDisplay: "exceptZero" });
const cents = form({ style: "currency", currency: "USD" });
const small = form({ style: "currency", currency: "USD", minimumSignificantDigits: 2, maximumSignificantDigits: 2 });
const precise = form({ minimumSignificantDigits: 2, maximumSignificantDigits: 2 });
const tenths = form({ maximumFractionDigits: 1 });

/** A share in whole percent. */
export function percent(value) {
  return known(value) ? `${count(100 * value)}\u00a0%` : NONE;
}

/** A share in tenths of a percent. */
export function finePercent(value) {
  return known(value) ? `${tenths(100 * value)}\u00a0%` : NONE;
}

/** Dollars: cents from one dollar up, two significant digits below. */
export function usd(value) {
  if (!known(value)) return NONE;
  if (value === 0) return "$0";
  return Math.abs(value) >= 1 ? cents(value) : small(value);
}

/** Dollars more or less. */
export function usdMore(value) {
  return `${value > 0 ? "+" : ""}${usd(value)}`;
}

/** Seconds, in milliseconds below a tenth. */
export function seconds(value) {
  if (!known(value)) return NONE;
  if (value < 0.0005) return "0\u00a0s";
  if (value < 0.1) return `${precise(value * 1000)}\u00a0ms`;
  return value < 10 ? `${precise(value)}\u00a0s` : `${count(value)}\u00a0s`;
}

/** Milliseconds. */
export function milliseconds(value) {
  return known(value) ? `${value < 10 ? precise(value) : count(value)}\u00a0ms` : NONE;
}

const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const hour = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** Time of day from seconds since the epoch; with the day if it is another. */
export function clock(at) {
  const when = new Date(at * 1000);
  return when.toDateString() === new Date().toDateString() ? time.format(when) : hour.format(when);
}

/** Day, hour and minute from seconds since the epoch. */
export function moment(at) {
  return hour.format(new Date(at * 1000));
}

/** A mean with its interval and the number of answers, or that there is none. */
export function interval({ mean, low, high, n }) {
  return known(mean) ? `${fraction(mean)}, 95 % interval ${fraction(low)} to ${fraction(high)}, n ${count(n)}` : "no feedback";
}

export { known };
