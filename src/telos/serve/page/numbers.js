/** Numbers as they are read; the same in both languages. */

/** With so many digits of a fraction, thousands apart; a dash for what is not known. */
export function number(value, digits = 0) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "–";
  const text = value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return text.replace("-", "−");
}

/** 1234567 as `1.23 M`. */
export function large(value) {
  for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= unit) return `${Number((value / unit).toPrecision(3))} ${name}`;
  }
  return number(value);
}

/** A probability as a percentage. */
export function percent(probability) {
  if (typeof probability !== "number" || !Number.isFinite(probability)) return "–";
  if (probability > 0 && probability < 0.001) return "<0.1%";
  return `${number(100 * probability, 1)}%`;
}
