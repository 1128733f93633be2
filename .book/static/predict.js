/* The buttons below a Predict: after the choice, and not before, they say whether it was right. */
document.addEventListener("DOMContentLoaded", () => {
    for (const group of document.querySelectorAll(".predict")) {
        const verdict = group.querySelector(".verdict");
        group.hidden = false;
        for (const button of group.querySelectorAll("button")) {
            button.addEventListener("click", () => {
                const right = button.dataset.right === "true";
                group.querySelectorAll("button").forEach(one => one.classList.toggle("chosen", one === button));
                verdict.textContent = `${button.textContent}: ${right ? "right." : "not so. Why? Go on, or choose again."}`;
            });
            /* In a lecture Space goes to the next slide; on a button it chooses */
            button.addEventListener("keydown", event => [" ", "Enter"].includes(event.key) && event.stopPropagation());
        }
    }
});
