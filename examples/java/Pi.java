import java.math.BigDecimal;
import java.math.BigInteger;
import java.math.RoundingMode;

/**
 * Prints pi to the number of decimal places given as the one argument: <code>java -jar pi.jar 100</code>.
 *
 * Machin's formula of 1706, in whole numbers: pi = 16 arctan(1/5) - 4 arctan(1/239).
 */
public final class Pi {
    /** More digits than are asked for, so that the error of the last terms stays out of sight. */
    private static final int GUARD_DIGITS = 10;
    private static final int MOST_DIGITS = 100_000;

    private Pi() {
    }

    public static void main(String[] words) {
        int digits = words.length == 1 ? readDigits(words[0]) : -1;
        if (digits < 0) {
            System.err.println("usage: java -jar pi.jar DIGITS   (0 to " + MOST_DIGITS + ")");
            System.exit(2);
        }
        System.out.println(pi(digits).toPlainString());
    }

    private static int readDigits(String word) {
        try {
            int digits = Integer.parseInt(word);
            return digits <= MOST_DIGITS ? digits : -1;
        } catch (NumberFormatException notANumber) {
            return -1;
        }
    }

    private static BigDecimal pi(int digits) {
        int scale = digits + GUARD_DIGITS;
        BigInteger one = BigInteger.TEN.pow(scale);
        BigInteger sixteenth = arctanOfInverse(5, one).multiply(BigInteger.valueOf(16));
        BigInteger scaled = sixteenth.subtract(arctanOfInverse(239, one).multiply(BigInteger.valueOf(4)));
        return new BigDecimal(scaled, scale).setScale(digits, RoundingMode.DOWN);
    }

    /** arctan(1/x) times <code>one</code>, by its power series 1/x - 1/(3 x^3) + 1/(5 x^5) - ... */
    private static BigInteger arctanOfInverse(int x, BigInteger one) {
        BigInteger square = BigInteger.valueOf((long) x * x);
        BigInteger power = one.divide(BigInteger.valueOf(x));
        BigInteger sum = BigInteger.ZERO;
        for (int n = 1; power.signum() != 0; n += 2) {
            BigInteger term = power.divide(BigInteger.valueOf(n));
            sum = n % 4 == 1 ? sum.add(term) : sum.subtract(term);
            power = power.divide(square);
        }
        return sum;
    }
}
