/**
 * For buttons that take each other's place: the second click of a double click is not meant for the button that has
 * just come where the first one was.
 */
export function firstClick(act: () => void): (event: MouseEvent) => void {
  return ({ detail }) => {
    // A key counts as no click.
    if (detail < 2) act();
  };
}
