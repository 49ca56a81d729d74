// Tables that are wider than the page scroll by themselves: let the keyboard reach them, too.
addEventListener("load", () => {
  for (const wrap of document.querySelectorAll(".md-typeset__scrollwrap")) wrap.tabIndex = 0;
});
